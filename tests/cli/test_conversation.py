"""ask and chat."""
import json

from command import CommandTest


class Conversation(CommandTest):
    def chat(self, *lines, **options):
        arguments = options.pop("arguments", ())
        return self.with_model("chat", "-n", 12, *arguments, input="".join(line + "\n" for line in lines), **options)

    def test_both_models_answer_about_a_folded_text(self):
        text = self.text(1500)
        for model in (self.plain, self.windowed):
            self.compact("-f", text, "-o", "a.kv", "-r", 4, model=model)
            first, second = (self.with_model("ask", "-s", "a.kv", "-p", "What is this text about?", "-n", 16, model=model)
                             for _ in range(2))
            self.assertEqual(first.returncode, 0, first.stderr)
            self.assertTrue(first.stdout.strip())
            self.assertEqual(first.stdout, second.stdout)  # greedy

    def test_ask_refuses_what_does_not_belong_to_the_model(self):
        self.compact("-f", self.text(400), "-o", "a.kv", "--method", "keep_last", "-r", 2)
        self.assert_fails(self.with_model("ask", "-s", "a.kv", "-p", "x", model=self.windowed), 1, "another model")
        self.assert_fails(self.with_model("ask", "-s", "missing", "-p", "x"), 1, "missing")

    def test_chat_compacts_saves_and_loads(self):
        done = self.chat("Name a color.", "/compact 2", "/stats", "/save a.kv", "/load a.kv", "And a fruit?", "/stats")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        state = json.loads(self.succeed("inspect", "a.kv", "--json"))
        self.assertAlmostEqual(state["tokens"] / state["cells"], 2, delta=0.2)
        self.assertIn(f"({state['tokens']} tokens in {state['cells']} of", done.stdout)

    def test_chat_goes_on_after_mistakes(self):
        done = self.chat("/compact", "/compact 0.5", "/compact 4 best", "/frobnicate", "/save", "/save nowhere/x",
                         "/load missing", "/stats", "/quit", "never read")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 7, done.stderr)
        self.assertEqual(done.stdout, "(0 tokens in 0 of 4096 cells, 0.000 MB)\n")

    def test_chat_says_when_the_context_is_nearly_full(self):
        done = self.chat("Name a color.", "x " * 400, arguments=("-c", 256))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("do not fit", done.stderr)
        self.assertIn("/compact makes room", done.stderr)
        done = self.chat("x " * 98, "/compact 4", "/stats", arguments=("-c", 256))
        self.assertIn("nearly full", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
