"""compact and inspect: slot files in and out, and what happens to them when something goes wrong."""
import json
import resource
import signal
import subprocess
import time

from command import CommandTest


class SlotFiles(CommandTest):
    def inspect(self, name):
        return json.loads(self.succeed("inspect", name, "--json"))

    def test_a_text_becomes_an_eighth_of_its_cells(self):
        out = self.compact("-f", self.text(2000), "-o", "a.kv", "--json", "a.json")
        self.assertIn("kvfold ask", out)
        report = json.loads((self.folder / "a.json").read_text())
        self.assertEqual(report["cells_before"], report["tokens"])
        self.assertAlmostEqual(report["cells_before"] / report["cells_after"], 8, delta=0.2)
        state = self.inspect("a.kv")
        self.assertEqual(state["tokens"], report["tokens"])
        self.assertEqual(state["cells"], report["cells_after"])
        self.assertTrue(state["folded"])
        self.assertEqual(state["sections"][0]["positions"]["last"], report["tokens"] - 1)
        self.assertEqual(state["bytes"], (self.folder / "a.kv").stat().st_size)

    def test_json_alone_leaves_standard_output_to_json(self):
        out = self.compact("-f", self.text(600), "-o", "a.kv", "--method", "keep_last", "--json")
        self.assertEqual(json.loads(out)["method"], "keep_last")

    def test_the_same_seed_gives_the_same_file(self):
        text = self.text(600)
        for name in ("a.kv", "b.kv"):
            self.compact("-f", text, "-o", name, "-r", 4, "--seed", 7)
        self.assertEqual(self.files()["a.kv"], self.files()["b.kv"])

    def test_a_session_is_folded_again_in_its_own_cache_type(self):
        self.compact("-f", self.text(2000), "-o", "a.kv", "-r", 2, "-ctk", "q8_0", "-ctv", "q8_0")
        self.compact("--session", "a.kv", "-o", "b.kv", "-r", 2)
        a, b = self.inspect("a.kv"), self.inspect("b.kv")
        self.assertEqual(a["tokens"], b["tokens"])
        self.assertAlmostEqual(a["cells"] / b["cells"], 2, delta=0.1)
        self.assertEqual(b["sections"][0]["keys"][0]["type"], "q8_0")

    def test_a_sliding_window_section_is_left_whole(self):
        self.compact("-f", self.text(2000), "-o", "a.kv", "-r", 4, model=self.windowed)
        whole, window = self.inspect("a.kv")["sections"]
        self.assertIsNotNone(whole["folded_region"])
        self.assertIsNone(window["folded_region"])

    def test_a_slot_file_of_another_model_is_refused(self):
        self.compact("-f", self.text(400), "-o", "a.kv", "--method", "keep_last", "-r", 2)
        before = self.files()
        self.assert_fails(self.with_model("compact", "--session", "a.kv", "-o", "b.kv", model=self.windowed), 1,
                          "another model")
        self.assertEqual(self.files(), before)

    def test_a_damaged_slot_file_is_refused(self):
        self.compact("-f", self.text(400), "-o", "a.kv", "--method", "keep_last", "-r", 2)
        whole = self.files()["a.kv"]
        (self.folder / "cut.kv").write_bytes(whole[:-1])
        (self.folder / "long.kv").write_bytes(whole + b"x")
        for name in ("cut.kv", "long.kv"):
            self.assert_fails(self.run_command("inspect", name), 1, name)
            self.assert_fails(self.with_model("compact", "--session", name, "-o", "b.kv"), 1, name)
        self.assertNotIn("b.kv", self.files())

    def test_a_text_longer_than_the_context_is_refused(self):
        text = self.text(2000)
        self.assert_fails(self.with_model("compact", "-f", text, "-o", "a.kv", "-c", 256), 1, "-c 256")
        self.assertEqual(list(self.files()), [text])

    def test_chunked_folds_a_text_longer_than_the_context_while_it_is_read(self):
        text = self.text(4000)
        out = self.compact("-f", text, "-o", "a.kv", "-c", 768, "--method", "chunked", "--json", "a.json")
        self.assertIn("kvfold ask", out)
        report = json.loads((self.folder / "a.json").read_text())
        self.assertGreater(report["tokens"], 768)
        self.assertEqual(report["cells_before"], report["tokens"])
        self.assertAlmostEqual(report["cells_before"] / report["cells_after"], 8, delta=0.2)
        state = self.inspect("a.kv")
        self.assertEqual((state["tokens"], state["cells"]), (report["tokens"], report["cells_after"]))
        self.assertEqual(state["sections"][0]["positions"]["last"], report["tokens"] - 1)
        answer = self.with_model("ask", "-s", "a.kv", "-p", "What is this about?", "-n", 4)
        self.assertEqual(answer.returncode, 0, answer.stderr)

    def test_chunked_without_room_for_a_chunk_is_refused(self):
        text = self.text(4000)
        self.assert_fails(self.with_model("compact", "-f", text, "-o", "a.kv", "-c", 256, "-r", 4,
                                          "--method", "chunked"), 1, "a context of 256 is too small")
        self.assertEqual(list(self.files()), [text])

    def test_texts_that_are_none(self):
        (self.folder / "empty").write_bytes(b"")
        (self.folder / "binary").write_bytes(b"a\0b")
        for name, words in (("empty", "no text"), ("binary", "not a text"), ("missing", "missing")):
            self.assert_fails(self.with_model("compact", "-f", name, "-o", "a.kv"), 1, words)

    def test_no_space_leaves_the_old_file(self):
        text = self.text(600)
        (self.folder / "a.kv").write_bytes(b"old")
        before = self.files()
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        done = self.with_model("compact", "-f", text, "-o", "a.kv", "--method", "keep_last", preexec_fn=limit)
        self.assert_fails(done, 1, "a.kv")
        self.assertEqual(self.files(), before)

    def test_an_interrupt_leaves_the_old_file(self):
        text = self.text(20_000, "prose")
        (self.folder / "a.kv").write_bytes(b"old")
        before = self.files()
        process = subprocess.Popen(self.argv("compact", "-m", self.plain, "-t", 1, "-f", text, "-o", "a.kv"),
                                   cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertEqual(err, "kvfold: interrupted\n")
        self.assertEqual(out, "")
        self.assertEqual(self.files(), before)
