"""A server that is told to stop while a prompt waits for a fold. A tiny model's folds end before a signal can arrive."""
import http.client
import json
import pathlib
import signal
import tempfile
import time
import unittest
import urllib.parse

from command import needed
from llama_server import ANSWER_S, LlamaServer


class Stopped(unittest.TestCase):
    def test_the_fold_ends_and_the_prompt_gets_its_room_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), tempfile.TemporaryDirectory() as name:
                self.stop_amid_a_fold(pathlib.Path(name), number)

    def wait_for(self, word, server):
        end = time.monotonic() + ANSWER_S
        while word not in server.log():
            self.assertLess(time.monotonic(), end, server.log())
            time.sleep(0.1)

    def stop_amid_a_fold(self, folder, number):
        options = ("--virtual", 4, "--log", "debug")  # 512 cells, and no dashboard
        with LlamaServer(needed("KVFOLD_MODEL_SMOL"), folder, "-b", "1200", context=2048, kvfold=options) as server:
            client = http.client.HTTPConnection(urllib.parse.urlsplit(server.base).netloc, timeout=ANSWER_S)
            prompt = server.passage("manual", 0, 1500)  # in batches of 1200
            client.request("POST", "/completion", json.dumps({"prompt": prompt, "n_predict": 1}))
            self.wait_for("folding", server)
            server.process.send_signal(number)
            self.wait_for("cleaning up before exit", server)
            client.close()  # llama-server waits for those who wait for it
            self.assertEqual(server.process.wait(ANSWER_S), 0)
            before, told, after = server.log().partition("the program is told to stop")
            self.assertTrue(told)
            self.assertNotIn("became", before)
            folds = [line for line in after.splitlines() if "became" in line]
            self.assertTrue(folds, after)
            for line in folds:
                self.assertIn("(0.0 s study, 0.0 s solve", line)


if __name__ == "__main__":
    unittest.main()
