"""kvfold.serve and kvfold.evaluate start the command."""
import json
import pathlib
import tempfile
import unittest
import urllib.request

from command import TEXTS, needed
from package import kvfold

ARGS = ["-c", "2048", "-t", "1", "--offline"]


def post(url, **body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class Serve(unittest.TestCase):
    def test_a_server_answers_and_ends_with_its_block(self):
        with kvfold.serve(needed("KVFOLD_PLAIN_MODEL"), virtual=4, args=ARGS,
                          options=["--method", "select", "--admin", "127.0.0.1:0"]) as server:
            answer = post(server.url + "/v1/chat/completions", max_tokens=4,
                          messages=[{"role": "user", "content": "Hello"}])
            self.assertGreater(answer["usage"]["completion_tokens"], 0)
            with urllib.request.urlopen(server.admin_url + "/state", timeout=60) as state:
                self.assertEqual(json.load(state)["context"]["cells"], 512)
            self.assertIn("512 cells serve as 2048", server.log())
            process = server._process
        self.assertIsNotNone(process.poll())
        with self.assertRaises(OSError):
            urllib.request.urlopen(server.url + "/health", timeout=5)

    def test_a_server_that_does_not_start_says_why(self):
        for model, words in (("/nowhere.gguf", "nowhere.gguf"), (__file__, "ended with code")):
            with self.subTest(model=model), self.assertRaisesRegex(kvfold.Error, words):
                with kvfold.serve(model, args=ARGS):
                    pass

    def test_an_option_that_makes_no_sense(self):
        with self.assertRaisesRegex(kvfold.InvalidArgument, "virtual is 0"):
            kvfold.serve("x.gguf", virtual=0)
        with self.assertRaisesRegex(kvfold.Error, "(?i)no-such-option"):
            with kvfold.serve(needed("KVFOLD_PLAIN_MODEL"), options=["--no-such-option"]):
                pass


class Evaluate(unittest.TestCase):
    def test_rows_of_plain_numbers(self):
        with tempfile.TemporaryDirectory() as folder:
            text, report = pathlib.Path(folder) / "text.txt", pathlib.Path(folder) / "report.html"
            text.write_text((TEXTS / "manual.txt").read_text()[:2000])
            found = kvfold.evaluate(needed("KVFOLD_PLAIN_MODEL"), [text], ratios=[4, 2.5], methods=["keep_last", "select"],
                                    threads=1, html=report, args=["-c", 256])
            self.assertGreater(report.stat().st_size, 1000)
        self.assertEqual({(row["method"], row["ratio"]) for row in found["rows"]},
                         {(method, ratio) for method in ("keep_last", "select") for ratio in (4, 2.5)})
        self.assertEqual(found["context"], 256)

    def test_what_the_command_refuses(self):
        with self.assertRaisesRegex(kvfold.Error, "no_such_method"):
            kvfold.evaluate(needed("KVFOLD_PLAIN_MODEL"), ["x.txt"], methods=["no_such_method"])
        with self.assertRaisesRegex(kvfold.Error, "x.gguf"):
            kvfold.evaluate("/x.gguf", [__file__])


if __name__ == "__main__":
    unittest.main()
