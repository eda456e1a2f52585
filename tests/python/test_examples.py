"""The examples run as they stand, those whose packages are installed here or in the folders of $KVFOLD_PYTHON_EXTRAS."""
import importlib.util
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

from command import TEXTS, needed
from package import CACHE, PATHS, ROOT

EXTRAS = [folder for folder in os.environ.get("KVFOLD_PYTHON_EXTRAS", "").split(os.pathsep) if folder]
OPENAI = [str(folder) for folder in CACHE.glob("openai-*")]


def has(module, paths):
    done = subprocess.run([sys.executable, "-c", f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({module!r}))"],
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    return done.returncode == 0


class Examples(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.model = needed("KVFOLD_PLAIN_MODEL")

    def run_example(self, name, *arguments, module=None):
        # Behind the set-up's own: a copy of llama-cpp-python among the extras must not be taken.
        paths = [*PATHS, *OPENAI, *EXTRAS]
        if module and not has(module, paths):
            self.skipTest(f"{module} is not installed; pip install the package that examples/{name} names, and name its "
                          "folder in KVFOLD_PYTHON_EXTRAS")
        done = subprocess.run([sys.executable, ROOT / "examples" / name, self.model, *arguments], cwd=self.folder, text=True,
                              capture_output=True, timeout=600, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_llama_cpp_python(self):
        document = self.folder / "document.txt"
        document.write_text((TEXTS / "prose.txt").read_text()[:2600])
        said = self.run_example("llama_cpp_python.py", str(document))
        self.assertRegex(said, r"\[2048 -> \d+ cells\]")
        self.assertRegex(said, r"\d+ tokens in \d+ of 2048 cells")

    def test_langchain(self):
        said = self.run_example("langchain_chat.py", module="langchain_community.chat_models")
        self.assertRegex(said, r"of 1024 cells are used; LangChain may fill 4096")

    def test_llama_index(self):
        said = self.run_example("llama_index_chat.py", module="llama_index.llms.llama_cpp")
        self.assertRegex(said, r"of 1024 cells are used; LlamaIndex may fill 4096")

    def test_an_openai_client(self):
        self.assertTrue(self.run_example("openai_client.py", module="openai").strip())

    def test_open_webui_is_pointed_at_the_server(self):
        """With a program of that name that lists the server's models and ends."""
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "open-webui").write_text('#!/bin/sh\ntest "$1" = serve && curl -sf "$OPENAI_API_BASE_URL/models"\n')
        (programs / "kvfold").write_text(f'#!/bin/sh\nexec {sys.executable} -m kvfold._cli "$@"\n')
        for program in programs.iterdir():
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        done = subprocess.run(["sh", ROOT / "examples/open_webui.sh", self.model], cwd=self.folder, text=True, timeout=600,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(PATHS)})
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn('"object":"list"', done.stdout)


if __name__ == "__main__":
    unittest.main()
