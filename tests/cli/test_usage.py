"""What goes without a model, and what is refused before one is loaded."""
import json
import os
import pathlib

from command import CommandTest

import tiny_models


class Usage(CommandTest):
    def test_version_names_kvfold_and_llama(self):
        self.assertRegex(self.succeed("--version"), r"^kvfold \S+ \(llama\.cpp \S+, ggml \S+, kernels \w+\)\n$")

    def test_kernels_that_are_not_there_are_refused(self):
        done = self.run_command("methods", env={**os.environ, "KVFOLD_KERNELS": "mmx"})
        self.assert_fails(done, 1, "KVFOLD_KERNELS=mmx: this build on this processor has")

    def test_every_command_has_help(self):
        for command in ("compact", "ask", "chat", "eval", "bench", "inspect", "methods", "advise", "doctor", "run", "serve"):
            self.assertIn(f"Usage: kvfold {command}", self.succeed(command, "--help"))

    def test_methods_as_json_have_one_default(self):
        methods = json.loads(self.succeed("methods", "--json"))
        self.assertLessEqual({"select", "solver", "omp", "on_policy", "sequential_on_policy", "nonuniform",
                              "context_prefill", "self_study", "chunked", "keep_last", "keep_first", "keep_random"},
                             {method["name"] for method in methods})
        self.assertEqual(sum(method["default"] for method in methods), 1)
        self.assertTrue(all(method["advice"] for method in methods))
        default, = (method for method in methods if method["default"])
        self.assertEqual(default["name"], "balanced")

    def test_methods_say_what_they_were_measured_to_cost_and_to_be_worth(self):
        methods = {method["name"]: method for method in json.loads(self.succeed("methods", "--json"))}
        for name, method in methods.items():
            self.assertGreater(method["relative_kl"], 0, name)
            self.assertEqual(method["cost"] > 0, not name.startswith("keep_"), name)
        self.assertEqual(methods["keep_last"]["relative_kl"], 1)
        shown = self.succeed("methods")
        self.assertIn(f'{methods["refine"]["cost"]:.2f}', shown)
        for line in shown.splitlines():
            self.assertLessEqual(len(line), 120, line)

    def test_wrong_usage_is_one_line_and_code_2(self):
        compact = ("compact", "-m", "model", "-f", "text", "-o", "out")
        cases = {
            (): "subcommand is required",
            ("frobnicate",): "no command 'frobnicate'",
            ("inspect",): "STATE is required",
            ("compact", "-m", "model", "-o", "out"): "--file or --session",
            (*compact, "--session", "in"): "excludes",
            (*compact, "-r", "0.5"): "0.5",
            (*compact, "-r", "nan"): "nan",
            (*compact, "-r", "8x"): "8x",
            (*compact, "--method", "finest"): "no method 'finest'",
            (*compact, "-ctk", "q3"): "no cache type 'q3'",
            (*compact, "--keep-first", "0"): "keep-first",
            ("eval", "-m", "model", "-f", "text", "--methods", "solver,finest"): "no method 'finest'",
            ("eval", "-m", "model", "--tasks", "copy,paste"): "no task 'paste'",
        }
        for arguments, words in cases.items():
            with self.subTest(arguments=arguments):
                self.assert_fails(self.run_command(*arguments), 2, words)

    def test_missing_and_wrong_files_are_one_line_and_code_1(self):
        text = self.text(100)
        cases = {
            ("compact", "-m", "missing.gguf", "-f", text, "-o", "out"): "missing.gguf",
            ("compact", "-m", text, "-f", text, "-o", "out"): "not a GGUF",
            ("compact", "-m", text, "-f", text, "-o", "nowhere/out"): "no folder nowhere",
            ("compact", "-m", text, "-f", text, "-o", "."): "is a folder",
            ("compact", "-m", text, "-f", text, "-o", "/dev/null"): "is a device",
            ("compact", "-m", text, "-f", text, "-o", "out", "--json", "/dev/null"): "is a device",
            ("eval", "-m", text, "-f", text, "--html", "/dev/null"): "is a device",
            ("eval", "-m", text, "-f", text, "--json", "nowhere/out"): "no folder nowhere",
            ("inspect", "missing.kv"): "missing.kv",
            ("inspect", text): "magic",
        }
        for arguments, words in cases.items():
            with self.subTest(arguments=arguments):
                self.assert_fails(self.run_command(*arguments), 1, words)
        self.assertEqual(list(self.files()), [text])

    def test_models_that_cannot_be_compacted_are_refused_with_the_reason(self):
        text = self.text(100)
        cases = {tiny_models.alibi: "ALiBi", tiny_models.encoder: "encoder", tiny_models.mamba: "recurrent",
                 tiny_models.mla: "MLA", tiny_models.all_window: "slides"}
        for write, words in cases.items():
            with self.subTest(words):
                write(self.folder / "tiny.gguf")
                (self.folder / "out").write_text("as it was")
                done = self.run_command("compact", "-m", "tiny.gguf", "-f", text, "-o", "out")
                self.assert_fails(done, 1, words)
                self.assertEqual((self.folder / "out").read_text(), "as it was")

    def test_full_standard_output_is_an_error(self):
        with open("/dev/full", "w") as full:
            import subprocess
            done = subprocess.run(self.argv("methods"), stdout=full, stderr=subprocess.PIPE, text=True)
        self.assert_fails(done, 1, "standard output")
