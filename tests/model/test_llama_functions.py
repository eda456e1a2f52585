"""The list of llama.cpp's functions that is checked when a program starts is that of those it calls."""
import pathlib
import re
import subprocess
import unittest

from command import needed

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Called only for batches that a program made with functions of the same age.
ONLY_WITH_THE_PROGRAM = {"llama_batch_ext_init"}


def undefined(library):
    listed = subprocess.run(["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True)
    return set(re.findall(r"\bU ((?:llama|ggml|gguf)_\w+)", listed.stdout))


class LlamaFunctions(unittest.TestCase):
    def setUp(self):
        self.listed = re.findall(r'"(\w+)"', (ROOT / "src/model/llama_functions.h").read_text())
        self.called = set().union(*map(undefined, needed("KVFOLD_LIBRARIES").split(":")))

    def test_every_function_that_is_called_is_listed_and_no_other(self):
        self.assertGreater(len(self.called), 60)
        self.assertEqual(self.called - set(self.listed), ONLY_WITH_THE_PROGRAM)
        self.assertEqual(set(self.listed) - self.called, set())

    def test_the_list_is_sorted(self):
        self.assertEqual(self.listed, sorted(set(self.listed)))


if __name__ == "__main__":
    unittest.main()
