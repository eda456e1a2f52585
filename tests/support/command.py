"""Runs the real kvfold program in a folder of its own."""
import os
import pathlib
import subprocess
import tempfile
import unittest

TEXTS = pathlib.Path(__file__).resolve().parents[2] / "bench" / "texts"


def needed(name):
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f'{name} is not set; eval "$(scripts/setup --print-env)", export it and run ctest')
    return value


class CommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    @property
    def plain(self):
        """A model whose layers all see the whole context."""
        return needed("KVFOLD_PLAIN_MODEL")

    @property
    def windowed(self):
        """A model most of whose layers slide over a window."""
        return needed("KVFOLD_WINDOW_MODEL")

    def text(self, size, name="manual"):
        path = self.folder / f"{name}-{size}.txt"
        path.write_text((TEXTS / f"{name}.txt").read_text()[:size])
        return path.name

    def argv(self, *arguments):
        return [needed("KVFOLD_BIN"), *map(str, arguments)]

    def run_command(self, *arguments, **options):
        return subprocess.run(self.argv(*arguments), cwd=self.folder, text=True, errors="replace", capture_output=True,
                              timeout=900, **options)

    def succeed(self, *arguments, **options):
        done = self.run_command(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def with_model(self, command, *arguments, model=None, **options):
        # One thread: the result is the same, and tests that share processors do not wait for each other.
        return self.run_command(command, "-m", model or self.plain, "-t", 1, *arguments, **options)

    def compact(self, *arguments, model=None):
        done = self.with_model("compact", *arguments, model=model)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def assert_fails(self, done, code, *words):
        self.assertEqual(done.returncode, code, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("kvfold: "), lines[0])
        for word in words:
            self.assertIn(word, lines[0])

    def files(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}
