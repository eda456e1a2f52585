"""What tiny models cannot show: with a trained model's tokenizer an answer comes back as it was written."""
import unittest

from command import TEXTS, needed
from package import kvfold, open_llama
from test_attach import Counted, asks, attach, hits
from test_programs import post

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
            before = list(llm.input_ids[:held])
            answer = llm.create_chat_completion(messages, max_tokens=24, temperature=0)
            usage, text = answer["usage"], answer["choices"][0]["message"]["content"]
            self.assertTrue(text.strip(), messages)
            # Two line ends that the model wrote one by one come back as one token: that is read again.
            same = next((i for i, (old, new) in enumerate(zip(before, llm.input_ids)) if old != new), held)
            self.assertGreaterEqual(same, held - 2)
            self.assertLessEqual(counted.read, usage["prompt_tokens"] - same + usage["completion_tokens"])
            held = llm.n_tokens
            messages.append({"role": "assistant", "content": text})
        self.assertGreaterEqual(len(chat.folds), 2)
        self.assertEqual({fold.method for fold in chat.folds}, {"balanced"})

    def test_its_prompt_cache_hits_are_those_of_the_server(self):
        model, turns, words = needed("KVFOLD_MODEL_SMOL"), 8, 40
        llm = open_llama(model, cells=256)
        chat = attach(llm, virtual=4)
        with kvfold.serve(model, virtual=4, args=["-c", 1024, "-np", 1, "-t", 1, "--offline"],
                          options=["--method", "select"]) as server:
            served = hits(lambda messages: post(server.url + "/v1/chat/completions", messages=messages, max_tokens=16,
                                                temperature=0)["usage"], turns, words)
            self.assertIn("256 cells serve as 1024", server.log())
        self.assertEqual(hits(asks(llm), turns, words), served)
        self.assertGreater(llm.n_tokens, 3 * chat.cells)


if __name__ == "__main__":
    unittest.main()
