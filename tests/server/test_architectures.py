"""Slot files of every kind of model, compacted by kvfold and restored in the unmodified llama-server; and a few kinds
that need care folded inside a running one."""
import pathlib
import re
import subprocess
import tempfile
import unittest

from command import TEXTS, needed
from llama_server import LlamaServer

import tiny_models

DOCUMENT = (TEXTS / "prose.txt").read_text()[:600]  # a token a character
MORE = " And then"


class InAServer(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def written(self, model):
        path = self.folder / f"{model.__name__}.gguf"
        model(path)
        return str(path)

    def test_slot_files_are_restored_and_continued(self):
        (self.folder / "doc.txt").write_text(DOCUMENT)
        for model in tiny_models.COMPACTABLE:
            with self.subTest(model.__name__):
                path = self.written(model)
                slot = self.folder / "doc.slot"
                done = subprocess.run([needed("KVFOLD_BIN"), "compact", "-m", path, "-t", "1", "-f", "doc.txt",
                                       "-r", "4", "-o", slot], cwd=self.folder, text=True, capture_output=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                before, after = map(int, re.search(r"cells +(\d+) -> (\d+)", done.stdout).groups())
                self.assertAlmostEqual(before / after, 4, delta=0.1)
                with LlamaServer(path, self.folder, "--swa-full") as server:
                    tokens = len(server.tokenize(DOCUMENT))
                    restored = server.restore("doc.slot")
                    self.assertEqual((restored["n_restored"], restored["n_read"]), (tokens, slot.stat().st_size))
                    answer = server.complete(DOCUMENT + MORE, 8)
                    self.assertEqual(answer["timings"]["predicted_n"], 8)
                    self.assertEqual(answer["timings"]["cache_n"], tokens)
                    # Broken twin: a file that lost its last bytes.
                    slot.write_bytes(slot.read_bytes()[:-7])
                    with self.assertRaises(OSError):
                        server.restore("doc.slot")

    def test_sequences_are_folded_while_the_server_runs(self):
        for model in (tiny_models.qwen2vl, tiny_models.gemma3n, tiny_models.gpt_oss, tiny_models.granite_hybrid,
                      tiny_models.qwen35):
            with self.subTest(model.__name__), \
                 LlamaServer(self.written(model), self.folder, "--swa-full",
                             kvfold=("--admin", "127.0.0.1:0")) as server:
                server.complete(DOCUMENT, 1)
                answer = server.admin("/compact", {"id_slot": 0, "ratio": 4.0})
                self.assertTrue(answer["success"])
                self.assertAlmostEqual(answer["compression_ratio"], 4, delta=0.1)
                answer = server.complete(DOCUMENT + MORE, 8)
                self.assertEqual(answer["timings"]["predicted_n"], 8)
                self.assertLess(answer["timings"]["prompt_n"], 16)
                self.assertEqual(server.admin("/state")["totals"]["failures"], 0)


if __name__ == "__main__":
    unittest.main()
