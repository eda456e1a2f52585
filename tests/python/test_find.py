"""Finding llama.cpp, the console script, and one libllama in a process."""
import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from command import needed
from package import NEEDS, PATHS, PREFIX, ROOT, kvfold

from kvfold import _cli, _doctor, _find

LLAMA_CPP = PREFIX / "llama_cpp"


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def prefix(self, name, *files):
        for file in files:
            path = self.folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
        return self.folder / name


class Finding(Folder):
    def test_the_variable_is_taken_alone(self):
        prefix = self.prefix("a", "lib/libllama.so.0", "bin/llama-server")
        with mock.patch.dict(os.environ, {"KVFOLD_LLAMA_PREFIX": str(prefix)}):
            found = _find.candidates()
        self.assertEqual([(one.source, one.folder, one.server, one.problem) for one in found],
                         [("KVFOLD_LLAMA_PREFIX", prefix / "lib", prefix / "bin/llama-server", "")])

    def test_folders_of_distributions_are_known(self):
        for folder in ("lib", "lib64", "lib/x86_64-linux-gnu"):
            prefix = self.prefix(folder.replace("/", "-"), f"{folder}/libllama.so.0")
            self.assertEqual(_find.of_prefix("x", prefix).folder, prefix / folder)

    def test_llama_cpp_python_is_found_with_the_server_beside_it(self):
        with mock.patch.dict(os.environ):
            os.environ.pop("KVFOLD_LLAMA_PREFIX", None)
            found = _find.candidates()[0]
        self.assertEqual((found.source, found.folder), ("llama-cpp-python", LLAMA_CPP / "lib"))
        self.assertEqual(found.server, PREFIX / "bin/llama-server")
        self.assertEqual(found.version, "0.5.0")

    def test_its_override_comes_first(self):
        with mock.patch.dict(os.environ, {"LLAMA_CPP_LIB_PATH": str(PREFIX / "lib")}):
            os.environ.pop("KVFOLD_LLAMA_PREFIX", None)
            self.assertEqual([one.source for one in _find.candidates()][:2], ["LLAMA_CPP_LIB_PATH", "llama-cpp-python"])

    def test_what_is_wrong_with_a_folder_is_said(self):
        old = self.prefix("old", "lib/libllama.so.1", "lib/libllama.so")
        (old / "lib/libllama.so").unlink()
        for prefix, words in ((self.folder / "gone", "no such folder"),
                              (self.prefix("empty", "lib/x"), "holds no libllama.so.0"),
                              (old, "has libllama.so.1 but no libllama.so.0")):
            with self.subTest(words=words), mock.patch.dict(os.environ, {"KVFOLD_LLAMA_PREFIX": str(prefix)}):
                found, refused = _find.first_usable()
                self.assertIsNone(found)
                self.assertIn(words, refused[0])

    def test_the_server_that_doctor_shows_is_the_one_that_serve_starts(self):
        for prefix in (PREFIX, LLAMA_CPP):  # beside the second one's libraries is none, but above them
            with mock.patch.dict(os.environ, {"KVFOLD_LLAMA_PREFIX": str(prefix)}):
                found, _ = _find.first_usable()
                self.assertEqual(found.server, PREFIX / "bin/llama-server")
                self.assertEqual(_cli.environment(found, is_serve=True)["KVFOLD_LLAMA_PREFIX"], str(PREFIX))

    def test_serve_takes_a_llama_that_has_a_server(self):
        without = _find.look_at("x", self.prefix("without", "lib/libllama.so.0") / "lib")
        with_one = _find.look_at("x", self.prefix("with", "lib/libllama.so.0", "bin/llama-server") / "lib")
        self.assertEqual(_cli.for_command([without, with_one], is_serve=True), with_one)
        self.assertEqual(_cli.for_command([without, with_one], is_serve=False), without)
        self.assertEqual(_cli.for_command([without], is_serve=True), without)


class Script(Folder):
    """The console script, in a Python of its own."""

    def kvfold(self, *arguments, **changed):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), **changed}
        environment = {name: value for name, value in environment.items() if value is not None}
        return subprocess.run([sys.executable, "-m", "kvfold._cli", *arguments], cwd=self.folder, text=True,
                              capture_output=True, env=environment)

    def plain(self, folder=PREFIX):
        """The program without a path to its libraries, as a wheel has it."""
        copy = self.folder / "kvfold"
        shutil.copy(needed("KVFOLD_BIN"), copy)
        subprocess.run([needed("KVFOLD_CMAKE"), f"-DFILE={copy}", "-P", ROOT / "tests/python/remove_rpath.cmake"], check=True)
        return {"KVFOLD_BIN": str(copy), "LD_LIBRARY_PATH": None, "KVFOLD_LLAMA_PREFIX": None}

    def test_the_program_runs_with_the_llama_that_was_found(self):
        environment = self.plain()
        alone = subprocess.run([environment["KVFOLD_BIN"], "methods"], capture_output=True, text=True,
                               env={**os.environ, "LD_LIBRARY_PATH": ""})
        self.assertIn("libllama.so.0: cannot open shared object", alone.stderr)
        done = self.kvfold("methods", **environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("refine", done.stdout)
        self.assertEqual(self.kvfold("no-such-command", **environment).returncode, 2)

    def test_a_program_that_it_starts_keeps_its_own_library_path(self):
        environment = {**self.plain(), "LD_LIBRARY_PATH": "/its/own",
                       "KVFOLD_PRELOAD_LIBRARY": str(pathlib.Path(needed("KVFOLD_LIBRARY")).with_name("libkvfold-preload.so"))}
        done = self.kvfold("run", "--children", "--", "/bin/sh", "-c", 'echo "$LD_LIBRARY_PATH"', **environment)
        self.assertEqual(done.stdout, "/its/own\n", done.stderr)

    def test_without_llama_it_says_what_to_do(self):
        done = self.kvfold("methods", PYTHONPATH=str(ROOT / "python"), KVFOLD_LLAMA_PREFIX=str(self.folder))
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("pip install llama-cpp-python", done.stderr)

    def test_doctor_lists_what_it_found(self):
        done = self.kvfold("doctor", **self.plain())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"llama.cpp 0.5.0 in {LLAMA_CPP / 'lib'} (llama-cpp-python)", done.stdout)
        self.assertIn(f"works; {PREFIX / 'bin/llama-server'}", done.stdout)
        self.assertIn("backends: CPU", done.stdout)
        found = json.loads(self.kvfold("doctor", "--json", **self.plain()).stdout)["candidates"][0]
        self.assertEqual((found["folder"], found["problem"]), (str(LLAMA_CPP / "lib"), ""))

    def test_doctor_shows_what_the_program_itself_has_to_say(self):
        program = self.folder / "program"
        program.write_text('#!/bin/sh\necho "{\\"arguments\\": \\"$*\\", \\"library\\": \\"$LD_LIBRARY_PATH\\"'
                           ', \\"checks\\": {\\"batches\\": \\"$CHECK\\"}}"\necho kvfold: not here >&2; exit "$CODE"\n')
        program.chmod(0o755)
        environment = {"KVFOLD_BIN": str(program), "KVFOLD_LLAMA_PREFIX": None, "LD_LIBRARY_PATH": None}
        for code, check, problem in (("0", "ok", ""), ("1", "ok", "kvfold: not here"), ("1", "longer", "batches: longer")):
            done = self.kvfold("doctor", "--json", "-m", "a.gguf", CODE=code, CHECK=check, **environment)
            found = json.loads(done.stdout)["candidates"][0]
            self.assertEqual((found["says"]["library"], found["says"]["arguments"], found["problem"]),
                             (str(LLAMA_CPP / "lib"), "doctor --json -m a.gguf", problem))
            self.assertEqual(done.returncode, int(code))

    def test_doctor_asks_a_model_too(self):
        environment = self.plain()
        models = pathlib.Path(needed("KVFOLD_TINY_MODELS"))
        self.assertEqual(self.kvfold("doctor", "-m", str(models / "mha.gguf"), **environment).returncode, 0)
        done = self.kvfold("doctor", "-m", str(models / "mamba.gguf"), **environment)
        self.assertEqual(done.returncode, 1)
        self.assertIn("model: this is a recurrent model", done.stdout)
        self.assertNotIn("do:", done.stdout)  # another llama.cpp would not help

    def test_doctor_tells_which_of_two_is_taken_and_how_to_take_the_other(self):
        broken = self.prefix("broken", "lib/libllama.so.0") / "lib"
        environment = self.plain()
        done = self.kvfold("doctor", **environment, LLAMA_CPP_LIB_PATH=str(broken))
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"in {broken} (LLAMA_CPP_LIB_PATH), which kvfold takes\n", done.stdout)
        self.assertIn(f"do: set KVFOLD_LLAMA_PREFIX={LLAMA_CPP}, which works", done.stdout)
        done = self.kvfold("doctor", **{**environment, "KVFOLD_LLAMA_PREFIX": str(LLAMA_CPP)})
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("(KVFOLD_LLAMA_PREFIX), which kvfold takes\n", done.stdout)

    def test_doctor_without_any_says_where_it_looked(self):
        with mock.patch.object(_find, "candidates", list), contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(_doctor.main([]), 1)
        self.assertIn("no llama.cpp found: not llama-cpp-python's", said.getvalue())
        self.assertIn("do: pip install llama-cpp-python", said.getvalue())

    def test_doctor_says_why_a_llama_does_not_work(self):
        broken = self.prefix("broken", "lib/libllama.so.0")
        done = self.kvfold("doctor", **{**self.plain(), "KVFOLD_LLAMA_PREFIX": str(broken)})
        self.assertEqual(done.returncode, 1)
        self.assertIn("libllama.so.0: file too short", done.stdout)
        self.assertIn("do: pip install llama-cpp-python", done.stdout)
        self.assertEqual(self.kvfold("doctor", "--wrong").returncode, 2)
        done = self.kvfold("doctor", "--json=/nowhere/a.json")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("/nowhere/a.json", done.stderr)
        self.assertEqual(self.kvfold("doctor", "--json=a.json").stdout, "")
        self.assertIn("candidates", json.loads((self.folder / "a.json").read_text()))


class OneLlama(unittest.TestCase):
    def python(self, script, paths=PATHS, **changed):
        return subprocess.run([sys.executable, "-c", script], text=True, capture_output=True,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **changed})

    def test_kvfold_uses_the_copy_of_llama_cpp_python(self):
        done = self.python("import kvfold; kvfold.methods(); from kvfold import _find; print(_find.loaded_llamas())")
        self.assertEqual(done.stdout.count("libllama"), 1, done.stderr)
        self.assertIn(str(LLAMA_CPP / "lib"), done.stdout)

    def test_a_second_copy_is_refused(self):
        done = self.python(f"import ctypes; ctypes.CDLL({str(PREFIX / 'lib/libllama.so.0')!r}); import kvfold; kvfold.methods()")
        self.assertIn("ImportError: this process has two copies of llama.cpp", done.stderr)
        self.assertIn(str(PREFIX / "lib"), done.stderr)
        self.assertIn(str(LLAMA_CPP / "lib"), done.stderr)

    def test_another_binding_has_loaded_it(self):
        library = str(LLAMA_CPP / "lib/libllama.so")
        done = self.python(f"import ctypes; ctypes.CDLL({library!r}); import kvfold; print(len(kvfold.methods()))",
                           paths=[PATHS[0]])
        self.assertGreater(int(done.stdout or 0), 5, done.stderr)

    def test_without_a_binding_one_is_looked_for(self):
        done = self.python("import kvfold; print(len(kvfold.methods()))", paths=[PATHS[0]])
        self.assertGreater(int(done.stdout or 0), 5, done.stderr)
        done = self.python("import kvfold; kvfold.methods()", paths=[PATHS[0]], KVFOLD_LLAMA_PREFIX="/nowhere")
        self.assertIn("ImportError: kvfold needs llama.cpp and found none; /nowhere/lib", done.stderr)

    def test_a_broken_llama_cpp_python_is_named(self):
        done = self.python("import kvfold; kvfold.methods()", LLAMA_CPP_LIB_PATH="/nowhere")
        self.assertIn("ImportError: llama-cpp-python is installed and cannot be imported: ", done.stderr)

    def test_a_missing_or_older_library_is_named(self):
        for library, words in (("/nowhere/libkvfold.so", "no such library; install kvfold with pip"),
                               (str(LLAMA_CPP / "lib/libggml-base.so"), "is older than this package")):
            done = self.python("import kvfold; kvfold.methods()", KVFOLD_LIBRARY=library)
            self.assertIn(f"ImportError: {library}", done.stderr)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
