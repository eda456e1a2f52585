"""The unmodified llama-server inside `kvfold serve`: contexts larger than the cells, and everything else as ever.

Tiny models: prompts are tokens, since the characters that random weights answer with are not always whole."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse

from command import needed
from llama_server import FOLDING, LlamaServer

CELLS = 512
LOAD_S = float(os.environ.get("KVFOLD_LOAD_SECONDS", "4"))


class ServeTest(unittest.TestCase):
    model_variable = "KVFOLD_PLAIN_MODEL"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def server(self, *flags, kvfold=FOLDING, **options):
        return LlamaServer(needed(self.model_variable), self.folder, *flags, kvfold=kvfold, **options)

    def wait_until_folded(self, server):
        """Until so few cells are in use that no fold begins by itself."""
        for _ in range(600):
            sequence = server.admin("/sequences")["sequences"][0]
            if not sequence["folding"] and sequence["cells"] < CELLS / 2:
                return
            time.sleep(0.1)
        self.fail(f"not folded: {sequence}")

    def folding_server(self, *flags, **options):
        return self.server(*flags, context=8 * CELLS, **options)

    def folds(self, server):
        return server.admin("/state")["totals"]["folds"]


class LongerThanTheCells:
    def test_a_prompt_three_times_the_cells_is_answered_and_stays_cached(self):
        with self.folding_server() as server:
            cells = server.admin("/state")["context"]["cells"]
            prompt = server.passage("manual", 0, min(3 * cells, 1900))  # a slot of a tiny model takes 2048
            first = server.complete(prompt, 8)
            self.assertEqual(first["timings"]["prompt_n"], len(prompt))
            self.assertEqual(first["timings"]["predicted_n"], 8)
            self.assertGreaterEqual(self.folds(server), 2)
            sequence = server.admin("/sequences")["sequences"][0]
            self.assertLessEqual(sequence["cells"], cells)
            self.assertGreaterEqual(sequence["tokens"], len(prompt))
            second = server.complete(prompt + first["tokens"] + server.passage("prose", 0, 8), 8)
            self.assertLess(second["timings"]["prompt_n"], 16)
            self.assertGreaterEqual(second["timings"]["cache_n"], len(prompt))

    def test_a_changed_history_is_answered_as_by_a_server_that_reads_it_anew(self):
        with self.folding_server() as server:
            prompt, end = server.passage("manual", 0, 900), server.passage("prose", 0, 20)
            server.complete(prompt, 4)
            self.assertGreaterEqual(self.folds(server), 1)
            answer = server.complete(prompt[:250] + end, 8)
            self.assertEqual(answer["timings"]["predicted_n"], 8)
        with self.server(kvfold=None) as server:
            self.assertEqual(answer["tokens"], server.complete(prompt[:250] + end, 8)["tokens"])
            # Broken twin: the history is gone.
            self.assertNotEqual(answer["tokens"], server.complete(end, 8)["tokens"])


class ServePlain(LongerThanTheCells, ServeTest):
    def test_without_options_answers_are_byte_for_byte_those_of_the_server_alone(self):
        answers = []
        for kvfold in (None, ()):
            with self.server(kvfold=kvfold) as server:
                prompts = [server.passage("prose", 0, 300), server.passage("prose", 0, 350),
                           server.passage("code", 0, 200)]
                answers.append([server.complete(prompt, 24)["tokens"] for prompt in prompts])
                if kvfold is not None:
                    self.assertIn("watched only", " ".join(server.kvfold_log()))
        self.assertEqual(*answers)

    def test_a_cache_that_loses_more_than_it_must_is_advised_against(self):
        for flags, advised in (((), True), (("-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on"), False)):
            with self.server(*flags, context=8 * CELLS, kvfold=("--virtual", "8")) as server:
                self.assertEqual("kvfold advise" in " ".join(server.kvfold_log()), advised)

    def test_slot_files_bring_a_folded_sequence_back(self):
        with self.folding_server() as server:
            prompt = server.passage("manual", 0, 900)
            prompt += server.complete(prompt, 4)["tokens"]
            self.wait_until_folded(server)
            prompt += server.passage("prose", 0, 4)
            prompt += server.complete(prompt, 4)["tokens"]  # behind a fold: it recalls
            before = server.admin("/sequences")["sequences"][0]
            server.save("a.slot")
            server.erase()
            server.complete(server.passage("prose", 0, 16), 4)
            server.restore("a.slot")
            after = server.admin("/sequences")["sequences"][0]
            self.assertEqual(after["tokens"], before["tokens"])
            self.assertGreater(before["recalled_cells"], 0)
            self.assertEqual(after["cells"], before["cells"] - before["recalled_cells"])  # the next prompt's are others
            self.assertTrue(after["tokens_known"])
            self.assertGreater(after["folded_tokens"], 0)
            again = server.complete(prompt + server.passage("prose", 4, 4), 4)
            self.assertLess(again["timings"]["prompt_n"], 16)

    def test_the_servers_own_prompt_cache_brings_a_folded_sequence_back(self):
        with self.folding_server("--cache-ram", "512") as server:
            prompt, other = server.passage("manual", 0, 900), server.passage("prose", 0, 600)
            first = server.complete(prompt, 4)
            server.complete(other, 4)
            again = server.complete(prompt + first["tokens"] + server.passage("prose", 0, 4), 4)
            self.assertLess(again["timings"]["prompt_n"], 16)
            self.assertTrue(server.admin("/sequences")["sequences"][0]["tokens_known"])

    def test_four_slots_under_load_with_cancellations(self):
        """Slots that grow beyond the cells and hang up now and then, beside one that is asked the same short
        question again and again and must answer as a server without kvfold does."""
        with self.server(kvfold=None, slots=4) as server:
            question = server.passage("prose", 0, 24)
            expected = server.complete(question, 8, id_slot=3)["tokens"]
        with self.folding_server("--cache-ram", "0", "-kvu", slots=4) as server:
            start, stop = time.monotonic(), threading.Event()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                talkers = [pool.submit(self.talk, server, slot, stop) for slot in range(3)]
                answers, state = [], server.admin("/state")
                try:  # a machine that is busy with other things folds later
                    while (waited := time.monotonic() - start) < LOAD_S or (
                            waited < 20 * LOAD_S and not state["totals"]["folds"]):
                        answers.append(server.complete(question, 8, id_slot=3, cache_prompt=False)["tokens"])
                        state = server.admin("/state")
                finally:
                    stop.set()
                turns = [talker.result() for talker in talkers]
            state = server.admin("/state")
            self.assertIsNone(server.process.poll())
        self.assertGreater(min(turns), 0)
        self.assertGreater(len(answers), 1)
        # In a batch with others the order of sums differs; most answers are the same to the letter.
        same = sum(answer == expected for answer in answers)
        self.assertGreater(same, len(answers) / 2, answers)
        self.assertEqual(state["totals"]["failures"], 0)
        self.assertGreater(state["totals"]["folds"], 0)

    def talk(self, server, slot, stop):
        """A conversation that grows by a passage a turn; every third answer is hung up on."""
        dialogue, text, turns = server.passage("dialogue", 0, 1600), [], 0
        while not stop.is_set():
            begin = 80 * turns % len(dialogue)
            text = text + dialogue[begin:begin + 80]
            if turns % 3 == 2:
                self.hang_up(server, {"prompt": text, "n_predict": 24, "temperature": 0, "id_slot": slot,
                                      "stream": True, "ignore_eos": True})
            else:
                text = text + server.complete(text, 24, id_slot=slot)["tokens"]
            text = text if len(text) < 3 * CELLS else []  # a tiny model was trained for 2048
            turns += 1
        return turns

    def hang_up(self, server, body):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.base).netloc, timeout=60)
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        connection.getresponse().read(1)
        connection.close()


class AdminOfARealServer(ServeTest):
    def test_a_slot_is_compacted_on_request(self):
        with self.server(kvfold=("--admin", "127.0.0.1:0")) as server:
            prompt = server.passage("manual", 0, 400)
            server.complete(prompt, 4)
            answer = server.admin("/compact", {"id_slot": 0, "method": "select", "ratio": 4.0})
            self.assertTrue(answer["success"])
            self.assertEqual(answer["method"], "select")
            self.assertAlmostEqual(answer["compression_ratio"], 4, delta=0.1)
            self.assertGreaterEqual(answer["original_tokens"], len(prompt))
            kept = server.admin("/state")["kept"]
            self.assertEqual(len(kept["layers"]), 3)
            self.assert_refused(server, 404, {"id_slot": 7, "ratio": 4.0})
            self.assert_refused(server, 400, {"id_slot": 0, "ratio": 0.5})
            self.assert_refused(server, 400, {"id_slot": 0, "method": "magic"})
            again = server.complete(prompt, 4)
            self.assertLess(again["timings"]["prompt_n"], 8)

    def assert_refused(self, server, code, body):
        before = server.admin("/sequences")["sequences"]
        with self.assertRaises(urllib.error.HTTPError) as refused:
            server.admin("/compact", body)
        self.assertEqual(refused.exception.code, code)
        self.assertIn("message", json.load(refused.exception)["error"])
        self.assertEqual(server.admin("/sequences")["sequences"], before)

    def test_an_embedding_server_is_passed_through(self):
        with self.server("--embeddings", kvfold=FOLDING) as server:
            self.assertTrue(server.ask("/embedding", {"content": "one two three"}))
            self.assertIn("passed through", " ".join(server.kvfold_log()))
            listed = server.admin("/processes")["processes"]
            self.assertEqual([(one["managed"], one["file"]) for one in listed], [(False, "mha")])
            self.assertIn("not for generation", server.admin("/state")["context"]["reason"])


class ServeWindow(LongerThanTheCells, ServeTest):
    model_variable = "KVFOLD_WINDOW_MODEL"


del ServeTest  # it has no tests of its own

if __name__ == "__main__":
    unittest.main()
