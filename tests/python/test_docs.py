"""What the documents show of Python and pip is run as it stands there."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from command import TEXTS, needed
from package import PATHS, ROOT
from snippets import find_snippets

PAGES = [ROOT / "README.md", ROOT / "docs/python.md", ROOT / "docs/install.md"]


class Documents(unittest.TestCase):
    def run_in(self, folder, command, code):
        programs = pathlib.Path(folder) / "bin"
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(PATHS)}
        done = subprocess.run([*command, code], cwd=folder, text=True, timeout=600, env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def folder_of_a_user(self):
        """With a model, a document and the command."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        there = pathlib.Path(folder.name)
        (there / "model.gguf").symlink_to(needed("KVFOLD_PLAIN_MODEL"))
        (there / "document.txt").write_text((TEXTS / "prose.txt").read_text()[:1500])
        kvfold = there / "bin/kvfold"
        kvfold.parent.mkdir()
        kvfold.write_text(f'#!/bin/sh\nexec {sys.executable} -m kvfold._cli "$@"\n')
        kvfold.chmod(0o755)
        return there

    def test_every_snippet_runs_in_its_order(self):
        for page in PAGES:
            folder = self.folder_of_a_user()
            snippets = [one for one in find_snippets(page.read_text()) if one.language == "python" or page.name == "install.md"]
            self.assertTrue(snippets, page)
            for snippet in snippets:
                command = [sys.executable, "-c"] if snippet.language == "python" else ["sh", "-euc"]
                with self.subTest(page=page.name, line=snippet.line):
                    self.assertEqual(self.run_in(folder, command, snippet.code)[0], 0, snippet.code)

    def test_a_snippet_that_fails_is_found(self):
        folder = self.folder_of_a_user()
        self.assertEqual(self.run_in(folder, [sys.executable, "-c"], "import kvfold; kvfold.methods()")[0], 0)
        self.assertNotEqual(self.run_in(folder, [sys.executable, "-c"], "import kvfold; kvfold.no_such_call()")[0], 0)
        self.assertNotEqual(self.run_in(folder, ["sh", "-euc"], "kvfold no-such-command")[0], 0)


if __name__ == "__main__":
    unittest.main()
