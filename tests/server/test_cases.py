"""What real programs do to a server, in `kvfold serve` and in the server alone, on a tiny model."""
import http.client
import json
import pathlib
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from command import needed
from llama_server import LlamaServer

BY_HAND = ("--admin", "127.0.0.1:0")
FOLDING = ("--virtual", 4, "--method", "select", *BY_HAND)


class Cases(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def server(self, *flags, kvfold=FOLDING, model=None, **options):
        return LlamaServer(model or needed("KVFOLD_PLAIN_MODEL"), self.folder, *flags, kvfold=kvfold, **options)

    def totals(self, server):
        return server.admin("/state")["totals"]

    def wait_until(self, server, is_so):
        """Until is_so(the state that the admin interface tells)."""
        deadline = time.monotonic() + 20
        while not is_so(state := server.admin("/state")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        return state

    def four_answers(self, server, prompt, count):
        body = {"prompt": prompt, "n": 4, "max_tokens": count, "temperature": 0, "ignore_eos": True}
        return [choice["text"] for choice in server.ask("/v1/completions", body)["choices"]]

    def test_four_answers_to_one_prompt_share_its_cells(self):
        with self.server("-kvu", slots=4, kvfold=None) as server:
            prompt = server.passage("manual", 0, 300)
            expected = self.four_answers(server, prompt, 24)
        with self.server("-kvu", slots=4) as server:  # 512 cells
            self.assertEqual(self.four_answers(server, prompt, 24), expected)
            self.assertEqual(self.totals(server)["folds"], 0)  # 300 and 4 x 24 cells have room

    def test_four_answers_that_outgrow_the_cells_are_answers_still(self):
        with self.server("-kvu", slots=4) as server:
            answers = self.four_answers(server, server.passage("manual", 0, 380), 60)
            # From one prompt, folded once for all of them. Their own cells stand in another order then, and sums round
            # otherwise: now and then one of four takes another token.
            self.assertEqual(len({answer[:20] for answer in answers}), 1)
            self.assertGreaterEqual(max(map(answers.count, answers)), 2)
            self.assertNotIn("putting the old cells back failed", server.log())
            self.assertGreater(self.totals(server)["folds"], 0)
            self.assertEqual(self.totals(server)["failures"], 0)

    def test_four_answers_while_another_chat_is_answered(self):
        """A batch with the other chat's next token before the prompt finds no room, and no part of it may be lost."""
        with self.server("-kvu", slots=6, context=1024) as server, ThreadPoolExecutor() as pool:  # 256 cells
            for turn in range(4):
                other = pool.submit(server.complete, server.passage("prose", 100 * turn, 100 * turn + 100), 150)
                time.sleep(0.05)
                answers = self.four_answers(server, server.passage("manual", 100 * turn, 100 * turn + 220), 8)
                self.assertEqual(len(answers), 4)
                self.assertEqual(other.result()["timings"]["predicted_n"], 150)
            self.assertEqual(self.totals(server)["failures"], 0)

    def test_an_endless_answer_goes_on_at_the_end_of_the_virtual_size(self):
        for kvfold in (None, FOLDING):
            with self.server("--context-shift", kvfold=kvfold) as server:
                for kept in (0, 4):  # tokens at the beginning; the server's own default is none
                    answer = server.complete(server.passage("manual", 0, 300), 2600, n_keep=kept)
                    self.assertEqual(answer["timings"]["predicted_n"], 2600)
                    self.assertTrue(answer["truncated"])
                if kvfold:
                    self.assertGreater(self.totals(server)["folds"], 2)
                    self.assertEqual(self.totals(server)["failures"], 0)

    def test_an_answer_asked_for_once_more_reads_nothing_again(self):
        with self.server() as server:  # 512 cells
            prompt = server.passage("manual", 0, 300)
            server.complete(prompt, 160)
            self.wait_until(server, lambda state: state["totals"]["folds"] == 1)
            timings = server.complete(prompt, 160)["timings"]
            self.assertEqual((timings["cache_n"], timings["prompt_n"]), (299, 1))

    def test_a_note_that_moves_along_four_turns_before_the_end(self):
        """As chat programs place notes on the scene: each prompt changes what was said four turns ago."""
        def tokens_read(server):
            chat, note, read = server.passage("manual", 0, 100), server.passage("prose", 0, 20), []
            for turn in range(24):
                chat = chat + server.passage("dialogue", 24 * turn, 24 * turn + 24)
                answer = server.complete(chat[:-4 * 32] + note + chat[-4 * 32:], 8)
                chat = chat + answer["tokens"]
                read.append(answer["timings"]["prompt_n"])
            return read

        with self.server(kvfold=None) as server:
            alone = tokens_read(server)
        with self.server() as server:  # 512 cells
            folded = tokens_read(server)
            self.assertGreater(self.totals(server)["folds"], 0)  # how many, time decides
        self.assertLessEqual(sum(folded), 1.1 * sum(alone), (alone, folded))

    def test_a_chat_with_an_edit_every_fifth_turn_reads_what_the_server_alone_reads(self):
        """40 turns of 40 tokens: every fifth time, the program changes the turn that was four turns ago."""
        def tokens_read(server):
            chat, read = [server.passage("manual", 0, 100)], []
            for turn in range(40):
                if turn % 5 == 4:
                    chat[-8:] = [server.passage("prose", 40 * turn, 40 * turn + 24)]
                chat.append(server.passage("dialogue", 24 * turn, 24 * turn + 24))
                answer = server.complete(sum(chat, []), 16)
                chat.append(answer["tokens"])
                read.append(answer["timings"]["prompt_n"])
            return read

        with self.server(kvfold=None) as server:
            alone = tokens_read(server)
        with self.server() as server:  # 512 cells
            folded, totals = tokens_read(server), self.totals(server)
            self.assertGreater(totals["folds"], 0)  # how many, time decides
            self.assertEqual((totals["failures"], totals["rereads"]), (0, 0))
        self.assertLessEqual(sum(folded), 1.1 * sum(alone), (alone, folded))

    def test_an_older_conversation_is_gone_on_with_where_it_began_to_differ(self):
        with self.server() as server:  # 512 cells
            first = server.passage("manual", 0, 300)
            server.complete(first + server.passage("prose", 0, 500), 8)
            self.assertGreater(self.totals(server)["folds"], 0)
            timings = server.complete(first + server.passage("dialogue", 0, 50), 8)["timings"]
            self.assertGreaterEqual(timings["cache_n"], 300)
            self.assertEqual(timings["cache_n"] + timings["prompt_n"], 350)

    def test_unfolding_a_slot_puts_its_cells_back(self):
        with self.server() as server:  # 512 cells
            document = server.passage("manual", 0, 300)
            expected = server.complete(document, 8)["tokens"]
            server.admin("/compact", {"id_slot": 0, "ratio": 8})
            cells = lambda: server.admin("/state")["sequences"][0]["cells"]
            self.assertLess(cells(), 64)
            self.assertEqual(server.admin("/unfold", {"id_slot": 0})["cells"], cells())
            self.assertGreater(cells(), 300)
            timings = (answer := server.complete(document, 8))["timings"]
            self.assertEqual((answer["tokens"], timings["cache_n"]), (expected, 299))
            for body, code in (({"id_slot": 0}, 400), ({"id_slot": 3}, 404), ({}, 400), ({"id_slot": 0, "x": 1}, 400)):
                with self.subTest(body=body), self.assertRaises(urllib.error.HTTPError) as refused:
                    server.admin("/unfold", body)
                self.assertEqual(refused.exception.code, code)

    def test_a_draft_model_shrinks_and_folds_as_its_target(self):
        model = needed("KVFOLD_PLAIN_MODEL")
        with self.server("-md", model, "--spec-type", "draft-simple", "--spec-draft-n-max", "4") as server:
            context = server.admin("/state")["context"]
            (draft,) = context["others"]
            self.assertEqual((draft["cells"], draft["virtual_cells"]), (context["cells"], context["virtual_cells"]))
            chat = server.passage("manual", 0, 300)
            timings = server.complete(chat, 900)["timings"]
            self.assertEqual(timings["predicted_n"], 900)
            self.assertGreater(timings["draft_n_accepted"], 100)
            self.assertGreater(server.admin("/state")["context"]["others"][0]["folds"], 2)
            # A cut inside both folds: what stood before comes back in both.
            other = server.passage("manual", 0, 250) + server.passage("prose", 0, 20)
            timings = server.complete(other, 40)["timings"]
            self.assertEqual((timings["cache_n"], timings["prompt_n"]), (250, 20))
            self.assertEqual(self.totals(server)["failures"], 0)
            self.assertIn("sequence 0 of context 2: ", server.log())

    def test_a_server_that_sleeps_is_healthy_and_counts_on(self):
        with self.server("--sleep-idle-seconds", "1") as server:
            server.complete(server.passage("manual", 0, 700))  # which waits for its fold: a sleep would end another
            asleep = self.wait_until(server, lambda state: not state["context"]["managed"])
            self.assertEqual(asleep["totals"]["folds"], 1)
            self.assertEqual(server.admin("/health")["status"], "ok")
            server.complete(server.passage("prose", 0, 700))  # wakes it
            self.assertEqual(self.totals(server)["folds"], 2)

    def test_title_requests_between_turns_find_the_chat_again(self):
        with self.server("--cache-ram", "512", "-kvu", slots=4, context=4096) as server:  # 1024 cells
            chat = server.passage("manual", 0, 800)
            server.complete(chat, 8)
            for turn in range(2):
                server.complete(server.passage("prose", 0, 600), 8)  # quotes the chat, in the words of another task
                chat = chat + server.passage("dialogue", 40 * turn, 40 * turn + 40)
                timings = server.complete(chat, 8)["timings"]
                self.assertLess(timings["prompt_n"], 100, f"turn {turn}")
            self.assertEqual(self.totals(server)["failures"], 0)

    def test_a_state_larger_than_the_free_cells_is_folded_in(self):
        with self.server(kvfold=None) as server:
            document = server.passage("manual", 0, 900)
            server.complete(document)
            server.save("large.slot")
        with self.server() as server:  # 512 cells
            self.assertEqual(server.restore("large.slot")["n_restored"], len(document))
            timings = server.complete(document + server.passage("prose", 0, 10), 4)["timings"]
            self.assertEqual((timings["cache_n"], timings["prompt_n"]), (len(document), 10))

    def idle_chats_asked_again(self, server):
        """Three chats stand idle when a long prompt needs their cells; tokens read when each of them goes on."""
        chats = [server.passage("manual", 300 * slot, 300 * slot + 280) for slot in range(3)]
        for slot, chat in enumerate(chats):
            server.complete(chat, 4, id_slot=slot)
        self.assertEqual(server.complete(server.passage("prose", 0, 500), 4, id_slot=3)["timings"]["predicted_n"], 4)
        more = server.passage("dialogue", 0, 10)
        return sum(server.complete(chat + more, 4, id_slot=slot)["timings"]["prompt_n"] for slot, chat in enumerate(chats))

    def test_idle_chats_are_folded_where_the_server_alone_drops_them(self):
        with self.server("-kvu", slots=4, context=1024, kvfold=None) as server:
            alone = self.idle_chats_asked_again(server)
            self.assertIn("purging slot", server.log())
        with self.server("-kvu", slots=4, context=4096) as server:  # 1024 cells too
            folded = self.idle_chats_asked_again(server)
            self.assertNotIn("purging slot", server.log())
            self.assertEqual(self.totals(server)["failures"], 0)
        self.assertEqual(folded, 3 * 10)
        self.assertGreater(alone, 280)

    def test_a_client_that_hangs_up_amid_folds_leaves_a_server_that_answers(self):
        with self.server(kvfold=None) as server:
            question = server.passage("prose", 0, 200)
            expected = server.complete(question, 8)["tokens"]
        with self.server() as server:  # 512 cells
            for _ in range(3):
                self.hang_up(server, server.passage("manual", 0, 1800))
                self.assertEqual(server.complete(question, 8)["tokens"], expected)
            self.assertFalse(any(slot["is_processing"] for slot in server.ask("/slots")))
            self.assertEqual(self.totals(server)["failures"], 0)

    def hang_up(self, server, prompt):
        """Once the server has begun to read."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.base).netloc, timeout=60)
        body = {"prompt": prompt, "n_predict": 64, "stream": True, "return_progress": True}
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        connection.getresponse().read(1)
        connection.close()

    def go_on_from_a_checkpoint(self, archive, expected):
        """expected: failures, times that tokens were read again, and that cells were taken back."""
        model = needed("KVFOLD_WINDOW_MODEL")
        start, turns = (0, 200), [(100 * turn, 100 * turn + 100) for turn in range(6)]
        ask = lambda server, tokens: server.complete(tokens, 8)["tokens"]
        with self.server(model=model, context=4 * 512, kvfold=(*FOLDING, "--archive", archive)) as server:
            chat = server.passage("manual", *start)
            first = ask(server, chat)
            for turn in turns:
                chat = chat + server.passage("dialogue", *turn)
                ask(server, chat)
            self.wait_until(server, lambda state: state["totals"]["folds"] > 0 and not state["sequences"][0]["folding"])
            changed = server.passage("manual", *start) + first + server.passage("prose", 0, 40)
            answer = ask(server, changed)
            totals = self.totals(server)
            self.assertEqual((totals["failures"], totals["rereads"], totals["taken_back"]), expected)
        with self.server(model=model, kvfold=None) as server:
            self.assertEqual(answer, ask(server, changed))

    def answer_to_an_edit_at(self, end, *flags, kvfold):
        """The edit of a folded text whose model has sliding windows: tokens of the answer, and of the cache."""
        model = needed("KVFOLD_WINDOW_MODEL")
        with self.server(*flags, model=model, context=2048, kvfold=kvfold) as server:
            text = server.passage("manual", 0, 700)
            server.complete(text[:600], 1)  # leaves a checkpoint
            server.complete(text, 1)
            if kvfold:
                server.admin("/compact", {"id_slot": 0, "ratio": 4, "method": "select"})
                server.complete(text + server.passage("prose", 0, 30), 4)
            answer = server.complete(text[:end] + server.passage("dialogue", 0, 20), 8)
            return answer["tokens"], answer["timings"]["cache_n"]

    def test_windows_that_the_program_keeps_whole_are_never_torn(self):
        """--swa-full: what a fold leaves of a window is as long as the model looks back, and the program knows more."""
        for end in (648, 690):  # inside the fold and behind it
            with self.subTest(end=end):
                expected, _ = self.answer_to_an_edit_at(end, "--swa-full", kvfold=None)
                answer, cached = self.answer_to_an_edit_at(end, "--swa-full", kvfold=BY_HAND)
                self.assertEqual(answer, expected)
                self.assertEqual(cached, 0)  # it is read again

    def test_recalled_cells_leave_before_a_window_comes_back(self):
        """A checkpoint's window reaches to where they stood."""
        expected, _ = self.answer_to_an_edit_at(640, kvfold=None)
        answer, cached = self.answer_to_an_edit_at(640, kvfold=(*BY_HAND, "--recall", 8))
        self.assertEqual(answer, expected)
        self.assertGreater(cached, 500)

    def test_a_slot_file_of_another_model_is_refused(self):
        with self.server(model=f"{needed('KVFOLD_TINY_MODELS')}/all_window.gguf", context=2048, kvfold=None) as server:
            server.complete(server.passage("manual", 0, 1200), 1)
            server.save("other.slot")
        with self.server() as server:
            text = server.passage("manual", 0, 300)
            expected = server.complete(text, 8)["tokens"]
            with self.assertRaises(urllib.error.HTTPError) as refused:
                server.restore("other.slot")
            self.assertEqual(refused.exception.code, 400)
            self.assertEqual(server.complete(text, 8)["tokens"], expected)

    def test_folding_is_not_left_to_a_program_that_is_told_of_more_cells(self):
        with self.server() as server:
            with self.assertRaises(urllib.error.HTTPError) as refused:
                server.admin("/policy", {"automatic": False})
            self.assertEqual(refused.exception.code, 400)
            self.assertIn("--virtual", refused.exception.read().decode())

    def test_a_checkpoint_inside_a_fold_brings_no_torn_cells(self):
        """A model with sliding windows: the server keeps checkpoints of them, and goes on from one without asking."""
        for archive, expected in ((0, (0, 1, 0)), (64, (0, 0, 1))):
            with self.subTest(archive=archive):
                self.go_on_from_a_checkpoint(archive, expected)

    def test_a_question_behind_a_fold_recalls(self):
        """And then its answer of 8 tokens does, thrice; nothing does while the document is read."""
        for recall, expected in ((0, 0), (8, 8)):
            with self.subTest(recall=recall), self.server(kvfold=(*FOLDING, "--recall", recall)) as server:
                chat = server.passage("manual", 0, 700)
                server.complete(chat, 1)
                self.wait_until(server, lambda state: not state["sequences"][0]["folding"])
                before = self.totals(server)["recalls"]
                for turn in range(2):
                    chat = chat + server.passage("dialogue", 20 * turn, 20 * turn + 20)
                    self.assertEqual(len(server.complete(chat, 8)["tokens"]), 8)
                totals = self.totals(server)
                self.assertEqual((totals["recalls"] - before, totals["failures"]), (expected, 0))

    def test_a_restored_slot_brings_its_archive_after_a_restart(self):
        archives = self.folder / "archives"
        archives.mkdir()
        keeping = (*FOLDING, "--archive-dir", archives)
        with self.server(kvfold=keeping) as server:
            document = server.passage("manual", 0, 300)
            expected = server.complete(document, 8)["tokens"]
            server.admin("/compact", {"id_slot": 0, "ratio": 8})
            server.save("a.slot")
            self.assertRegex(" ".join(path.name for path in archives.iterdir()), r"^a\.slot\.[0-9a-f]{8}\.archive$")
        with self.server(kvfold=keeping) as server:
            server.restore("a.slot")
            self.assertGreater(server.admin("/unfold", {"id_slot": 0})["cells"], 300)
            timings = (answer := server.complete(document, 8))["timings"]
            self.assertEqual((answer["tokens"], timings["cache_n"]), (expected, 299))
        with self.server() as server:  # the broken twin: nobody looks for it
            server.restore("a.slot")
            with self.assertRaises(urllib.error.HTTPError) as refused:
                server.admin("/unfold", {"id_slot": 0})
            self.assertEqual(refused.exception.code, 404)

    def test_a_damaged_slot_file_ends_nothing(self):
        with self.server() as server:
            document = server.passage("manual", 0, 200)
            first = server.complete(document, 8)["tokens"]
            server.save("a.slot")
            whole = (self.folder / "a.slot").read_bytes()
            (self.folder / "cut.slot").write_bytes(whole[:len(whole) // 2])
            with self.assertRaises(Exception):
                server.restore("cut.slot")
            self.assertEqual(server.complete(document, 8)["tokens"], first)


if __name__ == "__main__":
    unittest.main()
