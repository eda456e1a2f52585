"""Compact, save and load from Python."""
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from command import needed
from package import PATHS, kvfold, llama_cpp, next_tokens, open_llama, quick, read, state


class Compact(unittest.TestCase):
    def setUp(self):
        self.llm = open_llama()
        self.tokens = read(self.llm)

    def test_a_llama_goes_on_with_a_quarter_of_its_cells(self):
        before = len(state(self.llm))
        report = quick(self.llm)
        self.assertEqual((report.cells_before, report.method), (len(self.tokens), "select"))
        self.assertEqual(report.cells_after, round(len(self.tokens) / 4))
        self.assertAlmostEqual(report.ratio, 4, delta=0.1)
        self.assertLess(len(state(self.llm)), before / 3)
        self.assertEqual(self.llm.n_tokens, len(self.tokens))
        self.assertEqual(len(next_tokens(self.llm)), 8)
        self.assertEqual(self.llm.n_tokens, len(self.tokens) + 8)

    def test_pointers_give_the_same_cache_as_the_llama(self):
        other = open_llama()
        read(other)
        quick(self.llm)
        quick(ctx=other.ctx, tokens=list(self.tokens))
        self.assertEqual(state(self.llm), state(other))

    def test_pointers_and_tokens_of_other_kinds(self):
        import numpy

        for ctx in (self.llm.ctx, ctypes.c_void_p(self.llm.ctx)):
            for tokens in (self.tokens, tuple(self.tokens), numpy.array(self.tokens), numpy.array(self.tokens, numpy.int32)):
                before = state(self.llm)
                with self.assertRaises(kvfold.Cancelled):
                    quick(ctx=ctx, tokens=tokens, progress=lambda stage, done: False)
                self.assertEqual(state(self.llm), before)

    def test_every_setting_reaches_the_library(self):
        seen = set()
        report = kvfold.compact(self.llm, ratio=2, method="select", keep_first=8, keep_last=16, seed=7, threads=1,
                                progress=lambda stage, done: seen.add(stage))
        self.assertEqual((report.method, report.cells_after), ("select", round(len(self.tokens) / 2)))
        self.assertIn("study", seen)
        params = kvfold._library.CompactParams()
        kvfold._library.call("kvfold_compact_params_init", ctypes.byref(params), ctypes.sizeof(params))
        self.assertEqual((params.ratio, params.keep_first, params.keep_last, params.seed), (8.0, 4, -1, 1))

    def test_methods_are_those_of_the_command(self):
        listed = json.loads(subprocess.run([needed("KVFOLD_BIN"), "methods", "--json"], check=True, text=True,
                                           stdout=subprocess.PIPE).stdout)
        self.assertEqual([method.name for method in kvfold.methods()], [method["name"] for method in listed])

    def test_the_version_is_that_of_the_library(self):
        self.assertEqual(kvfold.__version__.encode(), kvfold._library.load().kvfold_version())


class Refusals(unittest.TestCase):
    def setUp(self):
        self.llm = open_llama()
        read(self.llm)

    def unchanged(self):
        before = state(self.llm)
        self.addCleanup(lambda: self.assertEqual(state(self.llm), before))

    def test_each_kind_has_its_class_and_says_what_to_do(self):
        self.unchanged()
        for kind, words, call in (
                (kvfold.InvalidArgument, "ratio is 0", lambda: quick(self.llm, ratio=0)),
                (kvfold.InvalidArgument, "no method 'best_of_all'", lambda: quick(self.llm, method="best_of_all")),
                (kvfold.InvalidArgument, "give a llama_cpp.Llama, or ctx=", lambda: quick(None)),
                (kvfold.InvalidArgument, "context is NULL", lambda: quick(ctx=0, tokens=[1])),
                (kvfold.InvalidArgument, "is no llama_cpp.Llama", lambda: quick(object())),
                (kvfold.InvalidArgument, "seq_id 3", lambda: quick(ctx=self.llm.ctx, seq_id=3, tokens=[1])),
                (kvfold.FileError, "/nowhere/a.slot", lambda: kvfold.load(self.llm, "/nowhere/a.slot")),
                (kvfold.FileError, "/nowhere/a.slot", lambda: kvfold.save(self.llm, "/nowhere/a.slot")),
                (kvfold.Corrupt, "", lambda: kvfold.load(self.llm, __file__)),
                (kvfold.Cancelled, "cancelled", lambda: quick(self.llm, progress=lambda stage, done: False))):
            with self.subTest(words=words), self.assertRaisesRegex(kind, words) as raised:
                call()
            self.assertIsInstance(raised.exception, kvfold.Error)
            self.assertNotIn("\n", str(raised.exception))

    def test_what_the_progress_callable_raises_comes_through(self):
        self.unchanged()

        def broken(stage, done):
            raise LookupError(stage)

        with self.assertRaises(LookupError):
            quick(self.llm, progress=broken)

    def test_ctrl_c_cancels_also_without_a_progress_callable(self):
        # A child, which is told to end amid a compaction that it repeats: the first one imports what it needs, and
        # Python 3.11 ends itself by SIGINT at exit where Ctrl-C came amid an import.
        child = ("from package import *\nllm = open_llama()\nread(llm)\n"
                 "again = lambda: quick(ctx=llm.ctx, tokens=llm.input_ids[:llm.n_tokens], ratio=1.01)\n"
                 "again()\n"
                 "try:\n    print('ready', flush=True)\n    while True: again()\n"
                 "except KeyboardInterrupt: print('interrupted', llm.n_tokens, flush=True)\n")
        running = subprocess.Popen([sys.executable, "-c", child], cwd=pathlib.Path(__file__).parent, text=True,
                                   stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.environ["PYTHONPATH"]})
        self.addCleanup(running.stdout.close)
        self.addCleanup(running.kill)
        self.assertEqual(running.stdout.readline(), "ready\n")
        running.send_signal(signal.SIGINT)
        self.assertEqual(running.stdout.readline(), f"interrupted {self.llm.n_tokens}\n")
        self.assertEqual(running.wait(), 0)

    def test_ctrl_c_leaves_the_sequence_as_it_was(self):
        before = state(self.llm)

        def cut_short(wanted, signal_sent=signal.SIGINT):
            def progress(stage, done):
                if stage == wanted:
                    signal.raise_signal(signal_sent)

            quick(self.llm, progress=progress)

        for stage in ("study", "solve", "swap"):
            with self.subTest(stage=stage):
                with self.assertRaises(KeyboardInterrupt):
                    cut_short(stage)
                self.assertEqual(state(self.llm), before)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.SIG_DFL)
        cut_short("swap", signal.SIGUSR1)  # a signal that does not raise cuts nothing short
        self.assertNotEqual(state(self.llm), before)

    def test_ctrl_c_behind_the_fold_does_not_hide_it(self):
        real = kvfold._library.call

        def late(name, *arguments):
            real(name, *arguments)
            if name == "kvfold_sequence_compact":
                raise KeyboardInterrupt

        with mock.patch.object(kvfold._library, "call", late), self.assertRaises(KeyboardInterrupt):
            quick(self.llm)
        guard = kvfold._guard.guard(self.llm)
        self.assertGreater(guard.folded_cells, 0)
        self.assertEqual(guard.cells(), kvfold._guard.inspect(self.llm.ctx).cells)

    def test_check_says_why_not(self):
        self.assertIsNone(kvfold.check(self.llm))
        self.assertIsNone(kvfold.check(ctx=self.llm.ctx))
        mamba = open_llama(pathlib.Path(needed("KVFOLD_TINY_MODELS")) / "mamba.gguf")
        self.assertIn("recurrent model", kvfold.check(mamba))
        read(mamba)
        with self.assertRaisesRegex(kvfold.Unsupported, "recurrent"):
            quick(mamba)


class SlotFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.slot = pathlib.Path(folder.name) / "document.slot"
        self.llm = open_llama()
        self.tokens = read(self.llm)
        quick(self.llm)
        self.state = state(self.llm)
        kvfold.save(self.llm, self.slot)

    def test_another_llama_goes_on_in_the_same_words(self):
        other = open_llama()
        self.assertEqual(kvfold.load(other, self.slot), self.tokens)
        self.assertEqual(state(other), self.state)
        self.assertEqual(next_tokens(other), next_tokens(self.llm))

    def test_by_pointers(self):
        other = open_llama()
        self.assertEqual(kvfold.load(None, self.slot, ctx=other.ctx), self.tokens)
        kvfold.save(None, self.slot, ctx=other.ctx, tokens=self.tokens)
        self.assertEqual(kvfold.load(other, self.slot), self.tokens)

    def test_llama_cpp_restores_it_without_kvfold(self):
        other = open_llama()
        tokens, count = (ctypes.c_int32 * 512)(), ctypes.c_size_t()
        self.assertGreater(llama_cpp.llama_state_seq_load_file(other.ctx, bytes(self.slot), 0, tokens, 512,
                                                               ctypes.byref(count)), 0)
        self.assertEqual(tokens[:count.value], self.tokens)
        self.assertEqual(state(other), self.state)

    def test_a_document_longer_than_n_ctx_asks_for_a_larger_one(self):
        other = open_llama(cells=128)
        read(other, words=3)
        before = state(other)
        with self.assertRaisesRegex(kvfold.InvalidArgument, rf"holds {len(self.tokens)} tokens, .* room for 128"):
            kvfold.load(other, self.slot)
        self.assertEqual(state(other), before)
        kvfold.attach(other, virtual=8)
        self.assertEqual(kvfold.load(other, self.slot), self.tokens)
        self.assertEqual(state(other), self.state)


class Import(unittest.TestCase):
    def test_importing_brings_neither_llama_cpp_nor_numpy(self):
        script = ("import sys, kvfold\nassert 'Llama' not in dir(kvfold) and kvfold.Error\n"
                  "print(sorted({'llama_cpp', 'numpy', 'subprocess', 'asyncio'} & set(sys.modules)))")
        done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)})
        self.assertEqual(done.stdout.strip(), "[]", done.stderr)

    def test_every_name_is_there_and_no_other(self):
        for name in kvfold.__all__:
            self.assertIsNotNone(getattr(kvfold, name), name)
        with self.assertRaises(AttributeError):
            kvfold.no_such_name


if __name__ == "__main__":
    unittest.main()
