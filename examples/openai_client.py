"""Any OpenAI client: kvfold starts an unmodified llama-server for it.

pip install openai
python openai_client.py model.gguf
"""

import sys

import kvfold
from openai import OpenAI

with kvfold.serve(sys.argv[1], virtual=4, args=["-c", 4096]) as server:
    client = OpenAI(base_url=server.url + "/v1", api_key="none")
    pieces = client.chat.completions.create(
        model="any", stream=True, max_tokens=32, messages=[{"role": "user", "content": "What is a cache?"}]
    )
    for piece in pieces:
        print(piece.choices[0].delta.content or "" if piece.choices else "", end="")
    print()
