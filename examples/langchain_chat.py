"""LangChain's ChatLlamaCpp keeps its Llama in `client`.

pip install langchain-community
python langchain_chat.py model.gguf
"""

import sys

import kvfold
from langchain_community.chat_models import ChatLlamaCpp

chat = ChatLlamaCpp(model_path=sys.argv[1], n_ctx=1024, max_tokens=32, verbose=False)
attached = kvfold.attach(chat.client, virtual=4)

messages = [("system", "You answer in one sentence."), ("human", "What is a cache?")]
print(chat.invoke(messages).content)
print(f"{attached.used} of {attached.cells} cells are used; LangChain may fill {chat.client.n_ctx()}")
