"""README.md keeps its word: every block marked as a snippet runs or compiles."""
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

from command import needed
from snippets import find_snippets

ROOT = pathlib.Path(__file__).resolve().parents[2]
SNIPPET_S = 300


def run_shell(code, folder):
    """The snippet alone in its folder, with kvfold on PATH. What it left running in the background is ended."""
    path = os.pathsep.join([str(pathlib.Path(needed("KVFOLD_BIN")).parent), os.environ["PATH"]])
    with open(folder / ".output", "w+", errors="replace") as output:
        process = subprocess.Popen(["sh", "-eu", "-c", code], cwd=folder, env={**os.environ, "PATH": path},
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try:
            code = process.wait(SNIPPET_S)
        except subprocess.TimeoutExpired:
            code = f"none: still running after {SNIPPET_S} s"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        output.seek(0)
        return code, output.read()


def compile_c(code, folder):
    source = folder / "snippet.c"
    source.write_text(code)
    includes = [f"-I{ROOT / 'include'}", "-isystem", f"{needed('KVFOLD_LLAMA_PREFIX')}/include"]
    done = subprocess.run([os.environ.get("CC", "cc"), "-std=c99", "-Wall", "-Werror", "-fsyntax-only", *includes, str(source)],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


class SnippetTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class Readme(SnippetTest):
    def setUp(self):
        super().setUp()
        for name in ("KVFOLD_BIN", "KVFOLD_LLAMA_PREFIX", "KVFOLD_MODEL_SMOL", "KVFOLD_MODEL_GEMMA"):
            needed(name)
        self.snippets = find_snippets((ROOT / "README.md").read_text())

    def of(self, language):
        found = [snippet for snippet in self.snippets if snippet.language == language]
        self.assertTrue(found, f"README.md has no ```{language} snippet")
        return found

    def test_shell_snippets_run(self):
        # One folder for all of them, in their order: a later one may use what an earlier one wrote. It looks like
        # the repository with its build, but files written beside the repository's own stay out of it.
        for entry in ROOT.iterdir():
            if not entry.name.startswith(".") and entry.name != "build":
                (self.folder / entry.name).symlink_to(entry)
        (self.folder / "build").symlink_to(needed("KVFOLD_BUILD"))
        for snippet in self.of("sh"):
            with self.subTest(line=snippet.line):
                code, output = run_shell(snippet.code, self.folder)
                self.assertEqual(code, 0, f"README.md line {snippet.line}:\n{snippet.code}\n{output}")

    def test_c_snippets_compile(self):
        for snippet in self.of("c"):
            with self.subTest(line=snippet.line):
                code, output = compile_c(snippet.code, self.folder)
                self.assertEqual(code, 0, f"README.md line {snippet.line}:\n{output}")


class Finding(unittest.TestCase):
    def test_only_marked_blocks_are_found(self):
        text = ("```sh\nfalse\n```\n  ```sh snippet\n  a\n    b\n  ```\n````c snippet\n```\nx\n````\n~~~c snippet\ny\n~~~\n"
                "`` ```sh snippet``\n")
        found = [(snippet.language, snippet.line, snippet.code) for snippet in find_snippets(text)]
        self.assertEqual(found, [("sh", 4, "a\n  b\n"), ("c", 8, "```\nx\n"), ("c", 12, "y\n")])

    def test_mistakes_are_not_passed_over(self):
        for text, words in (("```sh snippet\ntrue\n", "never closed"), ("```ruby snippet\n1\n```\n", "ruby"),
                            ("```snippet\n1\n```\n", "snippet"), ("```sh snippet twice\n1\n```\n", "twice"),
                            ("```c snippet\n\n```\n", "empty")):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, words):
                find_snippets(text)


class Running(SnippetTest):
    """The broken twins: what must not pass, does not."""

    def test_a_shell_snippet_fails_with_its_first_command(self):
        self.assertNotEqual(run_shell("false\ntrue\n", self.folder)[0], 0)
        self.assertNotEqual(run_shell('echo "$KVFOLD_NEVER_SET"\n', self.folder)[0], 0)
        self.assertEqual(run_shell("kvfold --version\n", self.folder)[0], 0)

    def test_a_background_program_does_not_outlive_its_snippet(self):
        self.assertEqual(run_shell("(sleep 0.5; touch late) &\n", self.folder), (0, ""))
        time.sleep(1)
        self.assertFalse((self.folder / "late").exists())

    def test_a_c_snippet_is_checked_for_errors_and_warnings(self):
        good = "#include <kvfold/kvfold.h>\nint f(void) { return kvfold_version()[0]; }\n"
        self.assertEqual(compile_c(good, self.folder), (0, ""))
        self.assertNotEqual(compile_c(good.replace("kvfold_version", "kvfold_no_such_call"), self.folder)[0], 0)
        self.assertNotEqual(compile_c(good.replace("return", "int unused; return"), self.folder)[0], 0)
