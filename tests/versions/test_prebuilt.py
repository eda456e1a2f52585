"""kvfold with a prebuilt llama.cpp of another version, whose backends are separate libraries: 0.4.0, from before
llama_process."""
import json
import os
import pathlib
import subprocess
import unittest

from command import CommandTest, needed

FOLDER = os.environ.get("KVFOLD_OTHER_LLAMA")


@unittest.skipUnless(FOLDER, "no prebuilt llama.cpp for this machine: scripts/other_llama has them for Linux on x86-64")
class Prebuilt(CommandTest):
    def setUp(self):
        super().setUp()
        self.there = {**os.environ, "LD_LIBRARY_PATH": FOLDER}

    def test_it_is_that_library_and_it_fits(self):
        for model in (self.plain, self.windowed):
            found = json.loads(self.succeed("doctor", "-m", model, "--json", env=self.there))
            self.assertEqual(pathlib.Path(found["llama_cpp"]["library"]).parent, pathlib.Path(FOLDER))
            self.assertTrue(found["llama_cpp"]["version"].startswith("0.4.0"), found)
            self.assertIsNone(found["warning"])
            self.assertEqual(found["checks"]["model"], "ok")

    def test_slot_files_go_both_ways(self):
        text = self.text(1200)
        for model in (self.plain, self.windowed):
            for name, wrote, reads in (("there", self.there, None), ("here", None, self.there)):
                with self.subTest(model=pathlib.Path(model).name, written=name):
                    done = self.with_model("compact", "-f", text, "-r", 4, "--method", "select", "-o", name, model=model,
                                           env=wrote)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    done = self.with_model("ask", "-s", name, "-p", "What is it?", "-n", 4, "--temp", 0, model=model,
                                           env=reads)
                    self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_program_of_it_is_managed_and_folds(self):
        backend = pathlib.Path(FOLDER) / "libggml-cpu-x64.so"  # the guest does not lie beside the backends
        environment = {**self.there, "GGML_BACKEND_PATH": str(backend), "LD_PRELOAD": needed("KVFOLD_PRELOAD_LIBRARY"),
                       "KVFOLD_PRELOAD": '{"virtual": 4, "method": "select"}'}
        done = subprocess.run([needed("KVFOLD_GUEST"), self.plain, "text", "1500"], env=environment, text=True,
                              capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (0, "2048 2048 2048\n0 1\n"), done.stderr)
        self.assertIn("became", done.stderr)

    def test_without_its_backends_the_doctor_says_so(self):
        for name in ("libllama.so.0", "libggml.so.0", "libggml-base.so.0"):
            library = (pathlib.Path(FOLDER) / name).resolve()
            for alias in {name, library.name}:
                (self.folder / alias).write_bytes(library.read_bytes())
        done = self.run_command("doctor", env={**os.environ, "LD_LIBRARY_PATH": str(self.folder)})
        self.assert_fails(done, 1)
        self.assertRegex(done.stdout, r"backends +ggml has none")


if __name__ == "__main__":
    unittest.main()
