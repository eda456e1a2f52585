"""What tiny models cannot show: with a trained model's tokenizer an answer comes back as it was written."""
import unittest

from command import TEXTS, needed
from package import kvfold, open_llama
from test_attach import Counted

WORDS = (TEXTS / "dialogue.txt").read_text().split()


class Chat(unittest.TestCase):
    def test_a_chat_of_three_times_the_cells_is_answered_and_never_read_again(self):
        llm = open_llama(needed("KVFOLD_MODEL_SMOL"), cells=256)
        chat = kvfold.attach(llm, virtual=4, threads=1)
        counted = Counted(llm)
        messages, held = [{"role": "system", "content": "You are a helpful assistant."}], 0
        while held < 3 * chat.cells:
            start = len(messages) * 20
            messages.append({"role": "user", "content": " ".join(WORDS[start:start + 40])})
            counted.read = 0
            answer = llm.create_chat_completion(messages, max_tokens=24, temperature=0)
            usage, text = answer["usage"], answer["choices"][0]["message"]["content"]
            self.assertTrue(text.strip(), messages)
            # The last token of an answer is sampled and not read.
            self.assertLessEqual(counted.read, usage["prompt_tokens"] - held + usage["completion_tokens"])
            held = llm.n_tokens
            messages.append({"role": "assistant", "content": text})
        self.assertGreaterEqual(len(chat.folds), 2)
        self.assertEqual({fold.method for fold in chat.folds}, {"refine"})


if __name__ == "__main__":
    unittest.main()
