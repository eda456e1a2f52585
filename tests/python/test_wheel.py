"""pip install . into a fresh environment with llama-cpp-python in it, and the main job there; with $KVFOLD_WHEEL, the
same with that file of scripts/wheel."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

from command import TEXTS, needed
from package import CACHE, NEEDS, PREFIX, ROOT

MADE = os.environ.get("KVFOLD_WHEEL")
MAIN_JOB = """
import sys, kvfold
from llama_cpp import Llama
model, document, slot = sys.argv[1:]
def opened():
    return Llama(model, n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False)
llm = opened()
tokens = llm.tokenize(open(document, "rb").read())
llm.eval(tokens)
report = kvfold.compact(llm, ratio=8)
assert report.cells_after == round(len(tokens) / 8), report
kvfold.save(llm, slot)
other = opened()
assert kvfold.load(other, slot) == tokens
said = [[token for token, _ in zip(one.generate([*tokens, 198], temp=0), range(8))] for one in (llm, other)]
assert said[0] == said[1], said
print(llm.detokenize(said[0]).decode(errors="replace"))
"""


TOOLS = max(CACHE.glob("wheel-tools-*"))


def run(*argv, **changed):
    """As a stranger: nothing that leads to this tree or its llama.cpp."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("KVFOLD_", "PYTHON", "LD_LIBRARY_PATH"))}
    return subprocess.run(list(map(str, argv)), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1700,
                          env={**environment, **changed}, cwd=tempfile.gettempdir())


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.programs = cls.folder / "venv/bin"
        run(sys.executable, "-m", "venv", cls.folder / "venv")
        cls.site = pathlib.Path(run(cls.programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").stdout.strip())
        for name in ("llama_cpp", "lib", "include", "bin"):  # as pip lays llama-cpp-python
            (cls.site / name).symlink_to(PREFIX / name)
        (cls.site / "needs.pth").write_text("\n".join(NEEDS))
        ccache = {"CMAKE_C_COMPILER_LAUNCHER": "ccache", "CMAKE_CXX_COMPILER_LAUNCHER": "ccache"} if shutil.which("ccache") else {}
        done = run(cls.programs / "pip", "install", "--disable-pip-version-check", "--no-build-isolation", "--no-deps",
                   MADE or ROOT, PYTHONPATH=str(TOOLS), CMAKE_BUILD_PARALLEL_LEVEL="2", **ccache)
        if done.returncode != 0:
            raise AssertionError(done.stdout[-4000:])
        cls.document = cls.folder / "document.txt"
        cls.document.write_text((TEXTS / "manual.txt").read_text()[:4000])

    def test_a_document_is_compacted_saved_loaded_and_gone_on_with(self):
        done = run(self.programs / "python", "-c", MAIN_JOB, needed("KVFOLD_MODEL_SMOL"), self.document, self.folder / "a.slot")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertTrue(done.stdout.strip())

    def test_the_commands(self):
        kvfold = self.programs / "kvfold"
        self.assertEqual(run(kvfold, "doctor").returncode, 0)
        slot = self.folder / "b.slot"
        done = run(kvfold, "compact", "-m", needed("KVFOLD_MODEL_SMOL"), "-f", self.document, "-r", 8, "-o", slot, "-t", 1)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(json.loads(run(kvfold, "inspect", slot, "--json").stdout)["cells"],
                         round(json.loads(run(kvfold, "inspect", slot, "--json").stdout)["tokens"] / 8))
        script = ("import sys, urllib.request, kvfold\n"
                  "with kvfold.serve(sys.argv[1], args=['-c', 2048, '-t', 1, '--offline']) as server:\n"
                  "    assert '512 cells serve as 2048' in server.log(), server.log()\n")
        served = run(self.programs / "python", "-c", script, needed("KVFOLD_MODEL_SMOL"))
        self.assertEqual(served.returncode, 0, served.stdout)

    def test_a_c_program_finds_the_library_in_it(self):
        build = self.folder / "consumer"
        done = run(needed("KVFOLD_CMAKE"), "-S", ROOT / "tests/install/consumer", "-B", build, "-DWANTED_VERSION=0.1.0",
                   f"-DCMAKE_PREFIX_PATH={self.site / 'kvfold'};{PREFIX}")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(run(needed("KVFOLD_CMAKE"), "--build", build).returncode, 0)
        self.assertIn("kvfold 0.1.0", run(build / "consumer", LD_LIBRARY_PATH=str(PREFIX / "lib")).stdout)

    def test_nothing_in_it_leads_to_the_machine_that_made_it(self):
        files = [path for path in (self.site / "kvfold").rglob("*")
                 if path.is_file() and path.suffix != ".pyc"]
        self.assertLessEqual({"kvfold", "libkvfold.so", "libkvfold-preload.so", "libkvfold-head.so", "kvfold.h", "py.typed"},
                             {path.name for path in files})
        for path in files:
            for place in (PREFIX, ROOT, self.folder):
                self.assertFalse(str(place).encode() in path.read_bytes(), f"{path} names {place}")
            self.assertFalse(path.name.startswith(("libllama", "libggml")))


@unittest.skipUnless(MADE, "no wheel for other machines: name one of scripts/wheel in KVFOLD_WHEEL")
class OtherMachines(unittest.TestCase):
    def test_it_runs_wherever_there_is_glibc_2_28(self):
        self.assertIn(f"manylinux_2_28_{os.uname().machine}.whl", MADE)
        done = run(sys.executable, "-m", "auditwheel", "show", MADE, PYTHONPATH=str(TOOLS))
        oldest = re.search(r'constrains the platform tag to\s+"manylinux_2_(\d+)_', done.stdout)
        self.assertTrue(oldest and int(oldest[1]) <= 28, done.stdout)

    def test_it_needs_llama_cpp_and_the_c_library_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(MADE).extractall(folder)
            needed_by = {path.name: set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", path).stdout))
                         for path in pathlib.Path(folder).rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"}
        self.assertEqual(needed_by.keys(), {"kvfold", "libkvfold.so", "libkvfold-preload.so", "libkvfold-head.so"})
        c_library = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
        llama = {"libllama.so.0", "libggml.so.0", "libggml-base.so.0"}
        self.assertEqual(needed_by["kvfold"] - c_library, llama)
        self.assertEqual(needed_by["libkvfold-head.so"] - c_library, set())


class Configuring(unittest.TestCase):
    def configure(self, *definitions):
        with tempfile.TemporaryDirectory() as folder:
            done = run(needed("KVFOLD_CMAKE"), "-S", ROOT, "-B", folder, "-G", "Ninja", "-DKVFOLD_WHEEL=ON",
                       f"-DPython3_EXECUTABLE={sys.executable}", *definitions)
        self.assertNotEqual(done.returncode, 0)
        return " ".join(done.stdout.split())

    def test_without_llama_cpp_it_says_what_to_do(self):
        said = self.configure("-DCMAKE_DISABLE_FIND_PACKAGE_llama=ON")
        self.assertIn("no llama.cpp with headers and CMake package", said)
        self.assertIn("pip install llama-cpp-python into this environment", said)

    def test_all_missing_libraries_are_named_at_once(self):
        said = self.configure("-DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON", "-DCMAKE_DISABLE_FIND_PACKAGE_fmt=ON")
        self.assertIn("these libraries are missing: Eigen3, fmt", said)
        self.assertIn("apt-get install libeigen3-dev libfmt-dev", said)


if __name__ == "__main__":
    unittest.main()
