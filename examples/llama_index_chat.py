"""LlamaIndex's LlamaCPP keeps its Llama in `_model`, and takes its window from there.

pip install llama-index-llms-llama-cpp
python llama_index_chat.py model.gguf
"""

import sys

import kvfold
from llama_index.llms.llama_cpp import LlamaCPP

llm = LlamaCPP(model_path=sys.argv[1], context_window=1024, max_new_tokens=32, verbose=False)
attached = kvfold.attach(llm._model, virtual=4)

print(llm.complete("A cache is").text)
print(f"{attached.used} of {attached.cells} cells are used; LlamaIndex may fill {llm.metadata.context_window}")
