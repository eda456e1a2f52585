"""Programs with the preload library in them: which contexts it takes, which llama.cpp it works in, what it exports."""
import os
import pathlib
import re
import subprocess
import unittest

from command import CommandTest, needed

GUESTS = pathlib.Path(needed("KVFOLD_GUESTS"))
LIBRARY = needed("KVFOLD_PRELOAD_LIBRARY")


class Guests(CommandTest):
    def run_guest(self, name, *options):
        done = self.run_command("run", *options, "--", str(GUESTS / name), self.plain)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr

    def test_the_first_context_is_taken_and_a_second_one_passed_through(self):
        out, log = self.run_guest("guest", "--virtual", 4)
        self.assertEqual(out, "2048 2048 128\n")  # its batches show that there are 512 cells
        self.assertIn("512 cells serve as 2048", log)
        self.assertIn("passed through", log)

    def test_in_another_llama_cpp_nothing_is_touched(self):
        out, log = self.run_guest("other-version", "--virtual", 4)
        self.assertEqual(out, "2048 2048 2048\n")
        self.assertIn("9.9.9", log)
        self.assertIn("kvfold does nothing", log)
        self.assertNotIn("serve as", log)

    def test_unsound_settings_leave_the_program_alone(self):
        for settings in ('{"virtual": 0}', "nonsense", '{"virtual": 4, "method": "magic"}', '{"unheard": 1}'):
            environment = {**os.environ, "LD_PRELOAD": LIBRARY, "KVFOLD_PRELOAD": settings}
            done = subprocess.run([GUESTS / "guest", self.plain], env=environment, text=True, capture_output=True)
            self.assertEqual((done.returncode, done.stdout), (0, "2048 2048 2048\n"), settings)
            self.assertIn("kvfold does nothing", done.stderr)

    def test_preloaded_by_hand_it_is_silent(self):
        done = subprocess.run([GUESTS / "guest", self.plain], env={**os.environ, "LD_PRELOAD": LIBRARY}, text=True,
                              capture_output=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "2048 2048 2048\n", ""))

    def test_programs_without_llama_cpp_run_with_it(self):
        done = subprocess.run(["sh", "-c", "echo fine"], env={**os.environ, "LD_PRELOAD": LIBRARY}, text=True,
                              capture_output=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "fine\n", ""))

    def test_it_exports_the_wrapped_functions_and_nothing_else(self):
        listing = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], text=True, capture_output=True, check=True)
        exported = {line.split()[-1] for line in listing.stdout.splitlines()}
        header = pathlib.Path(__file__).resolve().parents[2] / "src" / "preload" / "real.h"
        wrapped = set(re.findall(r"X\((llama_\w+)\)", header.read_text()))
        self.assertGreater(len(wrapped), 30)
        self.assertEqual(exported, wrapped)


if __name__ == "__main__":
    unittest.main()
