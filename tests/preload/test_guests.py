"""Programs with the preload library in them: which contexts it takes, which llama.cpp it works in, what it exports."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

from command import TEXTS, CommandTest, needed

# scripts/versions: guests run with the libraries of another llama.cpp, programs of the pinned one do not.
OTHER_LLAMA = "LD_LIBRARY_PATH" in os.environ
OF_THE_PINNED = unittest.skipIf(OTHER_LLAMA, "a program of the pinned llama.cpp")
GUESTS = pathlib.Path(needed("KVFOLD_GUESTS"))
LIBRARY = needed("KVFOLD_PRELOAD_LIBRARY")


class Guests(CommandTest):
    def run_guest(self, name, *options, then=()):
        done = self.run_command("run", *options, "--", str(GUESTS / name), self.plain, *map(str, then))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr

    def test_both_contexts_are_managed(self):
        out, log = self.run_guest("guest", "--virtual", 4)
        self.assertEqual(out, "2048 2048 2048\n")  # batches too are as large as the program asked for
        self.assertEqual(log.count("512 cells serve as 2048"), 2)

    def test_a_probe_of_memory_is_as_large_as_the_context_will_be(self):
        out, log = self.run_guest("guest", "--virtual", 4, then=("probe", 0))
        self.assertEqual((out, log), ("512\n2048\n", ""))
        out, _ = self.run_guest("guest", then=("probe", 0))
        self.assertEqual(out, "2048\n2048\n")

    def test_a_batch_larger_than_the_cells_is_decoded(self):
        for mode, count, expected in (("text", 1500, "0 1"), ("text", 500, "0 1"), ("image", 300, "0 1"),
                                      ("outputs", 300, "0 1")):
            with self.subTest(mode=mode, count=count):
                out, log = self.run_guest("guest", "--virtual", 4, "--method", "select", then=(mode, count))
                self.assertEqual(out.splitlines()[1], expected)
        self.assertEqual(log.count("became"), 0)  # 300 tokens have room

    def test_all_outputs_of_a_batch_are_there_also_when_it_is_decoded_in_parts(self):
        for count in (300, 700):  # of 512 cells
            out, log = self.run_guest("guest", "--virtual", 4, "--method", "select", then=("outputs", count))
            self.assertEqual(out.splitlines()[1:], ["0 1", str(count)])
        self.assertIn("became", log)

    def test_a_batch_that_cannot_be_parted_is_refused_and_says_why(self):
        out, log = self.run_guest("guest", "--virtual", 4, "--method", "select", then=("image", 700))
        self.assertEqual(out.splitlines()[1], "1 0")
        self.assertIn("lower --virtual", log)

    @OF_THE_PINNED
    def test_a_program_that_reads_hidden_states_hears_of_batches_that_need_no_parts(self):
        out, _ = self.run_guest("guest", "--virtual", 4, then=("hidden", 0))
        self.assertEqual(out, "2048 2048 2048\n512\n")

    def test_the_newest_position_is_told_truly_amid_a_fold(self):
        out, log = self.run_guest("guest", "--ratio", 8, "--method", "select", then=("poll", 1700))
        self.assertIn("became", log)
        self.assertEqual(out.splitlines()[1:], ["0 1", "0"])

    def test_settings_that_could_never_fold_are_refused_at_the_start(self):
        done = self.run_command("run", "--virtual", 4, "--keep-first", 600, "--", str(GUESTS / "guest"), self.plain)
        self.assertEqual(done.returncode, 1)
        self.assertIn("give keep_first up to", done.stderr)

    @unittest.skipIf(OTHER_LLAMA, "such programs do not hear of LD_LIBRARY_PATH")
    @unittest.skipUnless(sys.platform == "linux" and os.geteuid() == 0, "only root gives programs another user's rights")
    def test_a_program_that_drops_the_library_is_told_of(self):
        program = self.folder / "guest"
        shutil.copy(GUESTS / "guest", program)
        os.chown(program, -1, 65534)
        for mode, told in ((0o2755, True), (0o755, False)):  # set-group-id
            with self.subTest(mode=oct(mode)):
                program.chmod(mode)
                done = self.run_command("run", "--virtual", 4, "--", str(program), self.plain, "poll", "100")
                self.assertEqual("runs without kvfold" in done.stderr, told, done.stderr)

    @OF_THE_PINNED
    def test_llamas_own_program_reads_a_prompt_larger_than_the_cells(self):
        program = pathlib.Path(needed("KVFOLD_LLAMA_PREFIX")) / "bin" / "llama-completion"
        prompt = self.text(1400)
        done = self.run_command("run", "--virtual", 4, "--method", "select", "--", str(program), "-m", self.plain, "-c",
                                "2048", "-f", prompt, "-n", "8", "-no-cnv", "--temp", "0", "-t", "1", stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertIn("became", done.stderr)

    @OF_THE_PINNED
    def test_a_prompt_cache_keeps_its_tokens(self):
        program = pathlib.Path(needed("KVFOLD_LLAMA_PREFIX")) / "bin" / "llama-completion"
        text = (TEXTS / "manual.txt").read_text()
        for length, count in ((700, 8), (760, 60)):  # the second text begins with the first
            (self.folder / "p.txt").write_text(text[:length])
            done = self.run_command("run", "--ratio", "4", "--keep-last", "64", "--log", "debug", "--", str(program),
                                    "-m", self.plain, "-c", "1024", "-f", "p.txt", "-n", str(count), "-no-cnv",
                                    "--temp", "0", "-t", "1", "--prompt-cache", "s.bin", "--prompt-cache-all",
                                    stdin=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("with balanced", done.stderr)  # which asks the text
        self.assertNotIn("tokens are not known", done.stderr)

    def test_tools_that_a_program_starts_inherit_nothing(self):
        out, log = self.run_guest("guest", "--virtual", 4, then=("tool", 0))
        self.assertEqual(out, "2048 2048 2048\nlibraries= settings= set=\n")
        self.assertIn("512 cells serve as 2048", log)

    def test_what_else_is_preloaded_stays(self):
        other = str(GUESTS / "libother.so")
        done = self.run_command("run", "--virtual", 4, "--", str(GUESTS / "guest"), self.plain, "tool", "0",
                                env={**os.environ, "LD_PRELOAD": f"{other} {other}"})
        self.assertEqual(done.stdout.splitlines()[1:], [f"libraries={other} {other} settings= set=yes"], done.stderr)

    def test_a_child_of_a_program_that_only_starts_others_is_managed(self):
        out, log = self.run_guest("guest", "--virtual", 4, then=("router", 0))
        self.assertEqual(out, "2048 2048 2048\nlibraries= settings= set=\n")
        self.assertIn("512 cells serve as 2048", log)

    def test_a_child_of_a_script_is_managed(self):
        script = self.folder / "script"
        script.write_text(f"#!/bin/sh\n'{GUESTS}/guest' '{self.plain}' tool 0\n'{GUESTS}/guest' '{self.plain}'\n")
        script.chmod(0o755)
        done = self.run_command("run", "--children", "--virtual", "4", "--", str(script))
        self.assertEqual(done.stdout, "2048 2048 2048\nlibraries= settings= set=\n2048 2048 2048\n", done.stderr)
        self.assertEqual(done.stderr.count("512 cells serve as 2048"), 4)  # two of each guest

    def test_without_a_dashboard_to_connect_to_it_folds_all_the_same(self):
        settings = '{"virtual": 4, "method": "select", "control": "%s"}' % (self.folder / "nobody")
        environment = {**os.environ, "LD_PRELOAD": LIBRARY, "KVFOLD_PRELOAD": settings}
        done = subprocess.run([GUESTS / "guest", self.plain, "text", "1500"], env=environment, text=True, capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (0, "2048 2048 2048\n0 1\n"), done.stderr)
        self.assertEqual(done.stderr.count("no dashboard and no stop reach this process"), 1, done.stderr)
        self.assertIn("became", done.stderr)

    def test_a_version_that_nobody_tried_works_with_one_warning(self):
        out, log = self.run_guest("other-version", "--virtual", 4)
        self.assertEqual(out, "2048 2048 2048\n")
        self.assertEqual(log.count("llama.cpp 9.9.9 is not among the versions"), 1)
        self.assertEqual(log.count("512 cells serve as 2048"), 2)

    def test_in_a_llama_cpp_that_does_not_fit_nothing_is_touched(self):
        environment = {**os.environ, "LD_PRELOAD": LIBRARY, "KVFOLD_PRELOAD": '{"virtual": 4}'}
        done = subprocess.run([GUESTS / "longer"], env=environment, text=True, capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (0, "model name 5 6 8\ncontext 1 2 4\n"), done.stderr)
        self.assertEqual(done.stderr.count("has no llama_"), 1, done.stderr)
        self.assertIn("kvfold does nothing", done.stderr)

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
        of_draft_heads = {"_Z26llama_set_embeddings_nextnP13llama_contextbb",
                          "_Z30llama_set_embeddings_layer_inpP13llama_contextjb"}  # not in llama.h
        self.assertEqual(exported, wrapped | of_draft_heads)


if __name__ == "__main__":
    unittest.main()
