"""A chat with a document in a process of its own, on four times the context that its cells allow.

python llama_cpp_python.py model.gguf document.txt
"""

import pathlib
import sys

import kvfold
from llama_cpp import Llama

model, document = sys.argv[1:]
llm = Llama(model, n_ctx=2048, verbose=False)
chat = kvfold.attach(
    llm, virtual=4, on_fold=lambda report: print(f"[{report.cells_before} -> {report.cells_after} cells]")
)

messages = [{"role": "system", "content": pathlib.Path(document).read_text()}]
for question in ("Who is this about?", "What happens at the end?"):
    messages.append({"role": "user", "content": question})
    answer = llm.create_chat_completion(messages, max_tokens=64)["choices"][0]["message"]
    print(answer["content"])
    messages.append(answer)
print(f"{llm.n_tokens} tokens in {chat.used} of {chat.cells} cells")
