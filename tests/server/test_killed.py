"""A server that dies while it saves a slot. A tiny model's file is written before a signal can arrive."""
import concurrent.futures
import os
import pathlib
import signal
import tempfile
import time
import unittest

from command import needed
from llama_server import LlamaServer


class Killed(unittest.TestCase):
    def test_the_old_file_stays(self):
        with tempfile.TemporaryDirectory() as name, \
                LlamaServer(needed("KVFOLD_PLAIN_MODEL"), name, kvfold=()) as server, \
                concurrent.futures.ThreadPoolExecutor() as pool:
            folder = pathlib.Path(name)
            server.complete(server.passage("prose", 0, 1000))
            server.save("a.slot")
            old = (folder / "a.slot").read_bytes()
            server.complete(server.passage("code", 0, 1000))
            program = self.child_of(server.process.pid)
            saving = pool.submit(server.save, "a.slot")
            until = time.monotonic() + 10
            while not (begun := list(folder.glob("*.part"))) and not saving.done() and time.monotonic() < until:
                pass
            os.kill(program, signal.SIGKILL)
            self.assertTrue(begun)
            with self.assertRaises(OSError):
                saving.result(30)
            self.assertEqual((folder / "a.slot").read_bytes(), old)

    def child_of(self, pid):
        return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


if __name__ == "__main__":
    unittest.main()
