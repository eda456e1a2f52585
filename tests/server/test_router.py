"""llama-server's router inside `kvfold serve`: a child for each model, each managed and asked by its number."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from command import TEXTS, needed
from llama_server import LlamaServer

NAMES = ("mha", "qwen3")
OPTIONS = ("--virtual", 4, "--method", "select", "--admin", "127.0.0.1:0")
PATIENCE_S = 60  # only a test that fails waits so long


class Router(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = folder / "models"
        models.mkdir()
        for name in NAMES:
            shutil.copy(pathlib.Path(needed("KVFOLD_TINY_MODELS")) / f"{name}.gguf", models)
        cls.server = stack.enter_context(LlamaServer(models, folder, kvfold=OPTIONS))
        cls.text = (TEXTS / "manual.txt").read_text()

    def chat(self, model):
        return self.server.ask("/v1/chat/completions", {
            "model": model, "messages": [{"role": "user", "content": self.text[:300]}], "max_tokens": 4, "temperature": 0})

    def processes(self):
        return {one["file"]: one for one in self.server.admin("/processes")["processes"]}

    def both(self):
        """The numbers of the two processes, each of which holds a sequence."""
        for name in NAMES:
            self.chat(name)
        listed = self.processes()
        self.assertEqual(set(listed), set(NAMES))
        return [listed[name]["pid"] for name in NAMES]

    def sequence(self, process):
        return self.server.admin(f"/sequences?process={process}")["sequences"][0]

    def refused(self, code, path, body=None):
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.server.admin(path, body)
        self.assertEqual(refused.exception.code, code)
        return json.load(refused.exception)["error"]["message"]

    def test_each_child_is_managed_and_listed_by_its_models_file(self):
        self.both()
        listed = self.processes()
        for name, architecture in zip(NAMES, ("llama", "qwen3")):
            self.assertEqual(listed[name]["program"], "llama-server")
            self.assertTrue(listed[name]["managed"])
            self.assertEqual((listed[name]["cells"], listed[name]["virtual_cells"]), (512, 2048))
            self.assertTrue(listed[name]["model"].startswith(architecture), listed[name])
        self.assertEqual(self.server.admin("/health"), {"status": "ok"})

    def test_a_compaction_reaches_the_process_that_it_names(self):
        for mine, other in ((0, 1), (1, 0)):
            processes = self.both()
            before = self.sequence(processes[other])
            answer = self.server.admin("/compact", {"id_slot": 0, "ratio": 4.0, "process": processes[mine]})
            self.assertTrue(answer["success"])
            self.assertGreater(self.sequence(processes[mine])["folded_tokens"], 0)
            self.assertEqual(self.sequence(processes[other]), before)

    def test_a_policy_is_that_of_the_process_that_it_names(self):
        first, second = self.both()
        self.server.admin("/policy", {"ratio": 5.5, "process": second})
        self.assertEqual(self.server.admin(f"/policy?process={second}")["policy"]["ratio"], 5.5)
        self.assertEqual(self.server.admin(f"/policy?process={first}")["policy"]["ratio"], 8)

    def test_what_names_no_process_is_refused_and_changes_nothing(self):
        processes = self.both()
        before = [self.sequence(process) for process in processes]
        for path, body in (("/compact", {"id_slot": 0}), ("/policy", {"ratio": 2.0})):
            message = self.refused(400, path, body)
            for name, process in zip(NAMES, processes):
                self.assertIn(f"{process} ({name})", message)
            self.assertIn("no process 1;", self.refused(404, path, {**body, "process": 1}))
        self.assertEqual([self.sequence(process) for process in processes], before)

    def test_metrics_have_both(self):
        processes = self.both()
        with urllib.request.urlopen(self.server.admin_base() + "/metrics") as answer:
            text = answer.read().decode()
        for name, process in zip(NAMES, processes):
            held = re.search(rf'^kvfold_sequence_tokens{{process="{process}",file="{name}",model="[^"]+",id="0"}} (\d+)$', text, re.M)
            self.assertGreater(int(held[1]), 300, text)
        self.assertEqual(text.count("# TYPE kvfold_cells gauge"), 1)

    def hang(self, process):
        """A signal takes its time to reach each thread."""
        os.kill(process, signal.SIGSTOP)
        end = time.monotonic() + PATIENCE_S
        state = lambda thread: thread.read_text().rsplit(")", 1)[1].split()[0]
        while {state(thread) for thread in pathlib.Path(f"/proc/{process}/task").glob("*/stat")} != {"T"}:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_a_process_that_hangs_is_told_from_one_that_answers(self):
        processes = self.both()
        for process in processes:
            self.addCleanup(os.kill, process, signal.SIGCONT)
        self.hang(processes[0])
        self.assertEqual([self.processes()[name]["answers"] for name in NAMES], [False, True])
        self.assertEqual(self.server.admin("/health"), {"status": "ok"})
        self.hang(processes[1])
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.server.admin("/health")
        self.assertEqual((refused.exception.code, json.load(refused.exception)), (503, {"status": "no answer"}))
        for process in processes:
            os.kill(process, signal.SIGCONT)
        self.assertEqual([one["answers"] for one in self.processes().values()], [True, True])

    def test_a_model_that_is_unloaded_leaves_the_list_and_comes_back(self):
        first, second = self.both()
        self.server.ask("/models/unload", {"model": NAMES[0]})
        end = time.monotonic() + PATIENCE_S
        while first in [one["pid"] for one in self.processes().values()]:  # without its context it lives on for a moment
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertIn(f"no process {first};", self.refused(404, f"/state?process={first}"))
        self.assertEqual(self.server.admin("/health"), {"status": "ok"})
        self.assertGreater(self.sequence(second)["tokens"], 300)
        self.assertEqual(self.server.admin("/sequences")["sequences"], self.server.admin(f"/sequences?process={second}")["sequences"])
        again, _ = self.both()
        self.assertNotEqual(again, first)


class EmptyRouter(unittest.TestCase):
    def test_before_a_model_is_loaded_that_is_said(self):
        with tempfile.TemporaryDirectory() as folder:
            models = pathlib.Path(folder) / "models"
            models.mkdir()
            with LlamaServer(models, folder, kvfold=OPTIONS) as server:
                self.assertEqual(server.admin("/processes"), {"processes": []})
                for path in ("/state", "/metrics", "/health"):
                    with self.assertRaises(urllib.error.HTTPError) as refused:
                        server.admin(path)
                    self.assertEqual(refused.exception.code, 503)
                    if path != "/health":
                        self.assertIn("no process has loaded llama.cpp yet", json.load(refused.exception)["error"]["message"])


if __name__ == "__main__":
    unittest.main()
