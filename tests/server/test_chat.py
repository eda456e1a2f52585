"""Chats that outgrow the cells, as a chat window holds them: by template, with answers that are text again. Tiny models
answer with bytes that are not whole characters, so what they said is not what the next turn repeats."""
import tempfile
import unittest

from command import TEXTS, needed
from llama_server import FOLDING, LlamaServer

CELLS, TURNS, WORDS = 512, 26, 12


class LongChat:
    def test_every_turn_reads_only_what_is_new(self):
        words = (TEXTS / "dialogue.txt").read_text().split()
        messages = [{"role": "system", "content": "You are a helpful assistant. Answer in one sentence."}]
        known = 0
        with tempfile.TemporaryDirectory() as folder, \
                LlamaServer(needed(self.model_variable), folder, context=8 * CELLS, kvfold=FOLDING) as server:
            for turn in range(TURNS):
                topic = " ".join(words[WORDS * turn:WORDS * (turn + 1)])
                messages.append({"role": "user", "content": f"Turn {turn}: what do you make of this? {topic}"})
                answer = server.chat(messages, max_tokens=16)
                timings = answer["timings"]
                # What was new: the question, the end of the last answer's turn, and words that are cut into
                # tokens differently when they are read than when they were written. (With sliding windows the
                # server alone goes back by up to 20 tokens as well.)
                self.assertGreaterEqual(timings["cache_n"], known - 32, f"turn {turn}")
                self.assertLess(timings["prompt_n"], 110, f"turn {turn}")
                known = timings["cache_n"] + timings["prompt_n"] + timings["predicted_n"] - 1
                messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
            totals = server.admin("/state")["totals"]
        self.assertGreater(known, 2 * CELLS)
        self.assertGreaterEqual(totals["folds"], 2)
        self.assertEqual(totals["rereads"], 0)


class Smol(LongChat, unittest.TestCase):
    model_variable = "KVFOLD_PLAIN_MODEL"


class Gemma(LongChat, unittest.TestCase):
    model_variable = "KVFOLD_WINDOW_MODEL"


if __name__ == "__main__":
    unittest.main()
