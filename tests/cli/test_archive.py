"""What compact folds away, kept in an archive file or in a chat's memory: recalled when asked, and taken back."""
import json
import re

from command import CommandTest


class Archives(CommandTest):
    def setUp(self):
        super().setUp()
        self.compact("-f", self.text(800), "-o", "full.kv", "-r", 1)

    def fold(self, *arguments, ratio=4, method="select", model=None):
        return self.compact("--session", "full.kv", "-o", "small.kv", "-r", ratio, "--method", method,
                            "--archive", "small.archive", *arguments, model=model)

    def chat(self, *lines, arguments=(), model=None):
        length = () if "-n" in arguments else ("-n", 8)
        done = self.with_model("chat", *length, *arguments, input="".join(f"{line}\n" for line in lines), model=model)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def ask(self, *arguments):
        done = self.with_model("ask", "-n", 24, "-p", "What is this text about?", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def with_archive(self, *arguments):
        return ("-s", "small.kv", "--archive", "small.archive", *arguments)

    def test_what_an_archive_gives_back_is_what_was_folded_byte_for_byte(self):
        for model in (self.plain, self.windowed):
            with self.subTest(model=model):
                self.compact("-f", self.text(800), "-o", "full.kv", "-r", 1, model=model)
                out = self.fold("--json", "a.json", model=model)
                self.assertIn("--archive small.archive", out)
                report = json.loads((self.folder / "a.json").read_text())
                self.assertEqual(report["archive"], "small.archive")
                self.assertGreater(report["archive_bytes"], report["bytes_before"] - report["bytes_after"])
                done = self.chat("/unfold", "/save back.kv", arguments=self.with_archive(), model=model)
                self.assertIn(f"({report['cells_after']} -> {report['cells_before']} cells)", done.stdout)
                files = self.files()
                self.assertEqual(files["back.kv"], files["full.kv"])
                self.assertNotEqual(files["small.kv"], files["full.kv"])

    def test_the_slot_file_is_the_same_with_an_archive_and_without(self):
        self.fold()
        self.compact("--session", "full.kv", "-o", "alone.kv", "-r", 4, "--method", "select")
        self.assertEqual(self.files()["small.kv"], self.files()["alone.kv"])

    def test_chunks_are_archived_one_after_the_other(self):
        text = self.text(4000)
        self.compact("-f", text, "-o", "small.kv", "-c", 768, "--method", "chunked", "--archive", "small.archive")
        tokens = json.loads(self.succeed("inspect", "small.kv", "--json"))["tokens"]
        done = self.chat("/unfold", "/stats", arguments=self.with_archive())
        self.assertIn(f"({tokens} tokens in {tokens} of", done.stdout)

    def test_a_question_recalls_what_was_dropped(self):
        self.fold(method="keep_last", ratio=8)
        full = self.ask("-s", "full.kv")
        self.assertEqual(self.ask(*self.with_archive("--recall", 2000)), full)  # all of it
        self.assertNotEqual(self.ask(*self.with_archive("--recall", 0)), full)  # the broken twin

    def test_an_answer_asks_again_as_it_goes_on(self):
        self.fold(method="keep_last", ratio=8)
        def beside(predict, recall):
            done = self.chat("What?", "/stats", arguments=self.with_archive("-n", predict, "--recall", recall))
            self.assertEqual(done.stderr, "")
            tokens, cells = map(int, re.search(r"\((\d+) tokens in (\d+) of", done.stdout).groups())
            asked = re.search(r"\((\d+) of them recalled, asked (\d+) times\)", done.stdout)
            return cells - tokens, asked and tuple(map(int, asked.groups()))
        without, asked = beside(9, 0)
        self.assertIsNone(asked)
        self.assertEqual(beside(1, 16), (without + 16, (16, 2)))   # the prompt, and the token
        self.assertEqual(beside(9, 16), (without + 16, (16, 5)))   # tokens 1, 2, 4 and 8

    def test_recalled_cells_stand_beside_and_are_not_saved(self):
        self.fold()
        def beside(recall):
            done = self.chat("What?", "And?", "/stats", "/save a.kv", arguments=self.with_archive("--recall", recall))
            self.assertEqual(done.stderr, "")
            tokens, cells = map(int, re.search(r"\((\d+) tokens in (\d+) of", done.stdout).groups())
            saved = json.loads(self.succeed("inspect", "a.kv", "--json"))
            self.assertEqual(saved["tokens"], tokens)
            self.assertEqual(cells - saved["cells"], recall)
            return tokens - saved["cells"]
        self.assertEqual(beside(0), beside(16))

    def test_an_archive_is_a_file_of_its_own(self):
        before = self.files()
        for arguments in (("--session", "full.kv", "-o", "a.kv", "--archive", "./a.kv"),
                          ("--session", "full.kv", "-o", "a.kv", "--archive", "full.kv")):
            self.assert_fails(self.with_model("compact", *arguments), 1, "--archive")
        self.assertEqual(self.files(), before)

    def test_more_is_asked_for_than_there_is(self):
        self.fold(method="keep_last", ratio=8)
        self.assertEqual(self.ask(*self.with_archive("--recall", 2**20)), self.ask("-s", "full.kv"))

    def test_archives_that_do_not_belong_or_are_damaged_are_refused(self):
        self.fold()
        self.compact("--session", "full.kv", "-o", "other.kv", "-r", 8, "--method", "select",
                     "--archive", "other.archive")
        whole = self.files()["small.archive"]
        (self.folder / "cut.archive").write_bytes(whole[:-100])
        (self.folder / "wrong.archive").write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
        for name, words in (("other.archive", "archive of another slot file"), ("full.kv", "no archive"),
                            ("cut.archive", "cut off"), ("wrong.archive", "damaged"), ("missing", "missing")):
            for command in (("ask", "-p", "x"), ("chat",)):
                self.assert_fails(self.with_model(*command, "-s", "small.kv", "--archive", name), 1, name, words)

    def test_what_cannot_be_archived_leaves_the_files_alone(self):
        before = self.files()
        done = self.with_model("compact", "--session", "full.kv", "-o", "a.kv", "-r", 1, "--archive", "a.archive")
        self.assert_fails(done, 1, "--archive", "ratio of 1")
        done = self.with_model("compact", "--session", "full.kv", "-o", "a.kv", "--archive", "nowhere/a.archive")
        self.assert_fails(done, 1, "nowhere")
        self.assertEqual(self.files(), before)

    def test_a_chat_keeps_what_it_folds(self):
        done = self.chat("/unfold", "Name a color.", "/unfold", "/stats", "/compact 2", "/archive a.archive", "/save a.kv",
                         "/unfold", "/stats", "/unfold", "/load a.kv", "/unfold", "/stats")
        self.assertEqual(done.stderr, "kvfold: nothing is folded\n" * 3)
        counts = re.findall(r"\((\d+) tokens in (\d+) of", done.stdout)
        self.assertEqual(counts[0], counts[1])
        self.assertNotEqual(counts[1], counts[2])  # as it was loaded
        self.assertEqual(counts[1], counts[3])
        done = self.chat("/unfold", "/stats", arguments=("-s", "a.kv", "--archive", "a.archive"))
        self.assertEqual(re.findall(r"\((\d+) tokens in (\d+) of", done.stdout), counts[:1])
        done = self.chat("/unfold", arguments=("-s", "a.kv"))  # the broken twin: nobody kept it
        self.assertIn("the archive does not hold", done.stderr)

    def test_without_room_nothing_comes_back(self):
        self.fold()
        cells = json.loads(self.succeed("inspect", "small.kv", "--json"))["cells"]
        done = self.chat("/unfold", "/stats", arguments=self.with_archive("-c", 2 * cells))
        self.assertIn("and has room for", done.stderr)
        self.assertIn(f"in {cells} of", done.stdout)
