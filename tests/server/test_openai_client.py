"""A client that people really use, through a chat that outgrows the cells."""
import os
import pathlib
import sys
import tempfile
import unittest

from command import TEXTS, needed
from llama_server import FOLDING, LlamaServer

CACHE = pathlib.Path(os.environ.get("KVFOLD_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "kvfold")
sys.path[:0] = [str(folder) for folder in CACHE.glob("openai-*")]  # scripts/setup puts it there


class OpenAiClient(unittest.TestCase):
    def test_a_long_streamed_chat(self):
        from openai import OpenAI

        words = (TEXTS / "dialogue.txt").read_text().split()
        with tempfile.TemporaryDirectory() as folder, \
                LlamaServer(needed("KVFOLD_PLAIN_MODEL"), folder, context=4096,
                            kvfold=FOLDING) as server:
            client = OpenAI(base_url=server.base + "/v1", api_key="none", max_retries=0)
            messages = [{"role": "system", "content": "You are a helpful assistant."}]
            for turn in range(12):
                messages.append({"role": "user", "content": " ".join(words[60 * turn:60 * turn + 60])})
                pieces = client.chat.completions.create(model="any", messages=messages, stream=True, max_tokens=16,
                                                        temperature=0, stream_options={"include_usage": True})
                answer = ""
                for piece in pieces:
                    if piece.usage:
                        usage = piece.usage
                    answer += (piece.choices[0].delta.content or "") if piece.choices else ""
                self.assertTrue(answer, f"turn {turn}")
                messages.append({"role": "assistant", "content": answer})
            self.assertGreater(usage.prompt_tokens, 2 * 512)
            self.assertGreater(server.admin("/state")["totals"]["folds"], 1)


if __name__ == "__main__":
    unittest.main()
