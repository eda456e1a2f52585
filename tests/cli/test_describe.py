"""The completion scripts and the manual page that kvfold makes of its own options."""
import json
import re
import shutil
import subprocess
import unittest

from command import CommandTest

# $1: the script; then the words of the command line, the last of them unfinished.
ASK_BASH = r"""
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_kvfold
printf '%s\n' "${COMPREPLY[@]}"
"""


def long_options(shown):
    """Of what --help shows."""
    lines = (line.split()[0] for line in shown.splitlines() if line.startswith("  -"))
    return {name.split("{")[0] for line in lines for name in line.split(",") if name.startswith("--")}


class DescribeTest(CommandTest):
    def setUp(self):
        super().setUp()
        listed = self.succeed("--help").split("Subcommands:\n")[1].split("\n\n")[0]
        self.commands = {line.split()[0] for line in listed.splitlines()}
        self.assertLessEqual({"compact", "eval", "inspect", "serve"}, self.commands)


class Bash(DescribeTest):
    def complete(self, *words, damage=lambda script: script):
        script = self.folder / "kvfold.bash"
        script.write_text(damage(self.succeed("describe", "bash")))
        done = subprocess.run(["bash", "--norc", "-c", ASK_BASH, "bash", script, "kvfold", *words], cwd=self.folder,
                              text=True, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return set(done.stdout.split())

    def test_commands(self):
        self.assertEqual(self.complete("co"), {"compact"})
        self.assertEqual(self.complete(""), self.commands | {"--help", "--version"})
        self.assertEqual(self.complete("describe"), set())

    def test_options_are_those_of_the_command(self):
        self.assertEqual(self.complete("compact", "--me"), {"--method"})
        self.assertEqual(self.complete("eval", "--me"), {"--methods"})
        self.assertEqual(self.complete("methods", "--"), {"--help", "--json"})
        for command in self.commands:
            self.assertEqual(self.complete(command, "--"), long_options(self.succeed(command, "--help")), command)

    def test_values_that_can_be_listed(self):
        methods = {method["name"] for method in json.loads(self.succeed("methods", "--json"))}
        offered = self.complete("compact", "--method", "")
        self.assertEqual(offered, methods | {"fast", "balanced", "best"})
        self.assertEqual(self.complete("compact", "--method", "keep_"), {"keep_last", "keep_first", "keep_random"})
        self.assertEqual(self.complete("compact", "--method", "=", "keep_l"), {"keep_last"})
        self.assertEqual(self.complete("eval", "--methods", "refine,keep_l"), {"refine,keep_last"})
        self.assertEqual(self.complete("serve", "--log", ""), {"off", "error", "warn", "info", "debug"})
        self.assertEqual(self.complete("compact", "--cache-type-k", "q8"), {"q8_0"})
        for method in offered:
            with self.subTest(method):  # each is one that the command takes: the missing model is what fails
                done = self.run_command("compact", "-m", "no.gguf", "-f", "no.txt", "-o", "o", "--method", method)
                self.assertIn("no.gguf", done.stderr)

    def test_files_where_a_file_is_wanted_and_there_alone(self):
        for name in ("a model.gguf", "text"):
            (self.folder / name).touch()
        self.assertIn("text", self.complete("compact", "-m", ""))
        self.assertEqual(self.complete("inspect", "te"), {"text"})
        self.assertIn("text", self.complete("serve", "--log", "info", "--", "-m", "te"))
        self.assertEqual(self.complete("compact", "-r", ""), set())

    def test_a_broken_script_is_noticed(self):
        broken = self.complete("compact", "--me", damage=lambda script: script.replace("--method", "--metod"))
        self.assertNotIn("--method", broken)


class OtherShells(DescribeTest):
    def check(self, shell, *ask):
        if not shutil.which(shell):
            self.skipTest(f"no {shell} here")
        script = self.folder / f"script.{shell}"
        script.write_text(self.succeed("describe", shell))
        done = subprocess.run([shell, *ask, script], text=True, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_zsh_reads_its_script(self):
        self.check("zsh", "-n")

    def test_fish_reads_its_script(self):
        self.check("fish", "--no-execute")

    def test_all_options_are_in_the_scripts(self):
        zsh, fish = self.succeed("describe", "zsh"), self.succeed("describe", "fish")
        for command in self.commands:
            self.assertIn(f"        '{command}:", zsh)
            self.assertRegex(fish, rf"(?m)^complete -c kvfold -n __fish_use_subcommand -a {command} ")
            for name in long_options(self.succeed(command, "--help")):
                condition = f"'__fish_seen_subcommand_from {command}'"
                self.assertRegex(fish, rf"(?m)^complete -c kvfold -n {condition}.* -l {name[2:]} ")
                self.assertRegex(zsh.split(f"    {command})")[1].split(";;")[0], rf"{name}\b")


class ManualPage(DescribeTest):
    def test_structure(self):
        page = self.succeed("describe", "man")
        self.assertRegex(page, r'^\.TH KVFOLD 1 "" "kvfold \S+" "User Commands"\n\.SH NAME\nkvfold \\- ')
        self.assertEqual(re.findall(r"(?m)^\.SH (.*)", page), ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS",
                                                               "ENVIRONMENT", "EXIT STATUS"])
        self.assertEqual(set(re.findall(r"(?m)^\.SS kvfold (.*)", page)), self.commands)
        known = (".TH ", ".SH ", ".SS ", ".TP", ".PP", ".B ")
        for line in page.splitlines():
            if line.startswith((".", "'")):
                self.assertTrue(line.startswith(known), line)
            self.assertNotRegex(line, r"(?<!\\)-|\\(?![-efE&])", line)  # plain dashes; escapes other than ours

    def test_man_has_nothing_to_complain_of(self):
        if not shutil.which("man"):
            self.skipTest("no man here")
        page = self.folder / "kvfold.1"
        for text, complains in ((self.succeed("describe", "man"), False), (".TH KVFOLD 1\n.SH A\n.nosuch\n", True)):
            page.write_text(text)
            done = subprocess.run(["man", "--warnings", "-l", page], text=True, capture_output=True, timeout=60,
                                  env={"MANWIDTH": "80", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(bool(done.stderr), complains, done.stderr)


class Describe(CommandTest):
    def test_help_does_not_show_the_command(self):
        self.assertNotIn("describe", self.succeed("--help"))

    def test_other_forms_are_refused(self):
        self.assert_fails(self.run_command("describe", "tcsh"), 2, "tcsh")


if __name__ == "__main__":
    unittest.main()
