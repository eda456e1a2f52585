"""A llama.cpp is judged by what it does: one that differs is refused by the name of what differs."""
import json
import os
import pathlib
import unittest

from command import CommandTest, needed

OTHERS = pathlib.Path(needed("KVFOLD_OTHERS"))


class LlamaCheck(CommandTest):
    def examine(self, change=None):
        environment = {**os.environ, "LD_PRELOAD": str(OTHERS / f"lib{change}.so")} if change else None
        done = self.run_command("doctor", "-m", self.plain, "--json", env=environment)
        return done.returncode, json.loads(done.stdout)

    def test_the_llama_cpp_of_the_tests_passes(self):
        code, found = self.examine()
        self.assertEqual(code, 0)
        self.assertTrue(found["usable"])
        self.assertEqual(set(found["checks"].values()), {"ok"})
        self.assertLessEqual({"functions", "context parameters", "attention nodes", "model"}, set(found["checks"]))
        self.assertIsNone(found["warning"])
        self.assertTrue(found["backends"])
        folder = os.environ.get("LD_LIBRARY_PATH") or pathlib.Path(needed("KVFOLD_LLAMA_PREFIX")) / "lib"
        self.assertTrue(os.path.samefile(os.path.dirname(found["llama_cpp"]["library"]), folder))

    def test_each_difference_is_named(self):
        for change, about, words in (("longer", "context parameters", "llama_context_params has"),
                                     ("moved", "context parameters", "stand elsewhere"),
                                     ("renamed", "attention nodes", "named ATTENTION"),
                                     ("retyped", "tensor types", "q8_9, expected q8_0"),
                                     ("restated", "model", "bytes are left")):
            with self.subTest(change=change):
                code, found = self.examine(change)
                self.assertEqual(code, 1)
                self.assertFalse(found["usable"])
                self.assertIn(words, found["checks"][about])
                self.assertEqual([name for name, result in found["checks"].items() if result != "ok"], [about])

    def test_commands_work_with_none_of_them(self):
        text = self.text(900)
        for change in ("longer", "moved", "renamed", "retyped", "restated"):
            with self.subTest(change=change):
                environment = {**os.environ, "LD_PRELOAD": str(OTHERS / f"lib{change}.so")}
                done = self.with_model("compact", "-f", text, "-o", "out", env=environment)
                self.assert_fails(done, 1)
                self.assertFalse((self.folder / "out").exists())

    def test_for_people_it_is_a_table(self):
        shown = self.succeed("doctor", "-m", self.plain)
        for line in ("functions           ok", "model               ok", "backend             CPU"):
            self.assertIn(line, shown)
        self.assertRegex(shown, r"backend +CPU, .*; solving on it: ok")

    def test_a_model_that_cannot_be_compacted_is_named(self):
        done = self.run_command("doctor", "-m", "missing.gguf")
        self.assert_fails(done, 1)
        self.assertIn("missing.gguf: no such file", done.stdout)


if __name__ == "__main__":
    unittest.main()
