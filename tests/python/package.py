"""The Python package of this tree with the library of its build, and the llama-cpp-python of the set-up."""
import ctypes
import os
import pathlib
import sys

from command import TEXTS, needed

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("KVFOLD_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "kvfold")
PREFIX = pathlib.Path(needed("KVFOLD_LLAMA_PREFIX"))
NEEDS = [str(folder) for folder in sorted(CACHE.glob("llama-python-needs-*"))]
PATHS = [str(ROOT / "python"), *NEEDS, str(PREFIX)]
sys.path[:0] = [*PATHS, str(ROOT / "tests/readme")]

import kvfold  # noqa: E402
import llama_cpp  # noqa: E402

WORDS = (TEXTS / "dialogue.txt").read_text().split()


def text(words, start=0):
    return " ".join(WORDS[start:start + words])


def open_llama(model=None, cells=512, **more):
    """One thread: tests that share processors do not wait for each other."""
    return llama_cpp.Llama(str(model or needed("KVFOLD_PLAIN_MODEL")), n_ctx=cells, n_batch=64, n_threads=1,
                           n_threads_batch=1, verbose=False, seed=1, **more)


def read(llm, words=40, start=0):
    tokens = llm.tokenize(text(words, start).encode())
    llm.eval(tokens)
    return tokens


def state(llm):
    """The bytes of the sequence as llama.cpp has them."""
    size = llama_cpp.llama_state_seq_get_size(llm.ctx, 0)
    bytes_ = (ctypes.c_uint8 * size)()
    llama_cpp.llama_state_seq_get_data(llm.ctx, bytes_, size, 0)
    return bytes(bytes_)


def next_tokens(llm, count=8):
    """What the model writes next when it always takes the most likely token."""
    found = []
    for token in llm.generate([*llm.input_ids[:llm.n_tokens].tolist(), 40], temp=0, reset=True):
        found.append(token)
        if len(found) == count:
            return found


def quick(llm=None, **more):
    """The method that takes the least time and still studies the text."""
    return kvfold.compact(llm, **{"method": "select", "ratio": 4, "threads": 1, **more})
