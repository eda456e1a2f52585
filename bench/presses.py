#!/usr/bin/env python3
"""The side of transformers of bench/peers.py: what presses of kvpress leave of a text, and how long they take.

Runs where `scripts/setup --kvpress` has put torch and kvpress, beside llama-cpp-python and the package of this tree;
bench/peers.py starts it. Everything is on the CPU and in f32. Writes JSON.
"""

import argparse
import contextlib
import importlib.metadata
import json
import logging
import pathlib
import statistics
import sys
import tempfile
import time

import kvpress
import llama_cpp
import torch
from kvfold.kvpress import AttentionMatchingPress
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

PREDICTED = 256  # as in `kvfold eval`: one token is read behind the context, so that these can be predicted


def over_snapkv(name):
    return lambda removed: getattr(kvpress, name)(kvpress.SnapKVPress(removed))


# How each is made from the share that it removes; all else is its own default.
MADE_OTHERWISE = {"AdaKVPress": over_snapkv("AdaKVPress"), "CriticalAdaKVPress": over_snapkv("CriticalAdaKVPress"),
                  "AttentionMatchingPress": lambda removed: AttentionMatchingPress(removed,
                                                                                   threads=torch.get_num_threads())}


def make_press(name, removed):
    make = MADE_OTHERWISE.get(name) or getattr(kvpress, name, None)
    if make is None:
        raise LookupError(f"kvpress {importlib.metadata.version('kvpress')} has no {name}")
    return make(removed)


def kept_cells(model, cache):
    """The mean over layers and KV heads. Some presses mark cells that attention is to leave out, and remove none."""
    kept = []
    for layer, module in zip(cache.layers, (each.self_attn for each in model.model.layers)):
        masked = getattr(module, "masked_key_indices", None)
        heads, cells = layer.keys.shape[1:3]
        kept.append(cells - (len(masked[0]) / heads if masked else 0))
    return statistics.fmean(kept)


class Reader:
    """A model of transformers. tokens: a text's, the context first."""

    def __init__(self, model, context):
        self.model, self.context = model, context

    def read(self, tokens, press=None):
        """(cache, seconds): the context read with a press in the model, as kvpress's own pipeline does it. Seconds are
        the processor's, over the threads: what else runs on the machine is not counted."""
        cache, start = DynamicCache(), time.process_time()
        with press(self.model) if press else contextlib.nullcontext():
            self.model.model(input_ids=torch.tensor([tokens[:self.context]]), past_key_values=cache)
        return cache, (time.process_time() - start) / torch.get_num_threads()

    def predictions(self, tokens, cache):
        """log p: [PREDICTED, vocabulary], each token of the text being read in its place."""
        masks = any(getattr(layer.self_attn, "masked_key_indices", None) for layer in self.model.model.layers)
        step = 1 if masks else PREDICTED  # kvpress finds a key that hides a cell from few queries, not from many
        rows = []
        for at in range(self.context, self.context + PREDICTED, step):
            rows.append(self.model(input_ids=torch.tensor([tokens[at:at + step]]), past_key_values=cache,
                                   position_ids=torch.arange(at, at + step)[None]).logits[0])
        return torch.cat(rows).double().log_softmax(-1)


def llama_predictions(llm, tokens, context):
    """The same of llama.cpp: [PREDICTED, vocabulary]."""
    llm.reset()
    llm.eval(tokens[:context + PREDICTED])
    return torch.from_numpy(llm.scores[context:context + PREDICTED].copy()).double().log_softmax(-1)


def compared(full, other):
    """Means over the tokens, as in src/measure/score.cpp."""
    return {"kl": (full.exp() * (full - other)).sum(-1).mean().item(),
            "top1": (full.argmax(-1) == other.argmax(-1)).double().mean().item()}


def open_model(file, folder):
    """folder: for the tokenizer, which KVzip opens by the model's name. Its chat template is
    left out, since the texts are none of its chats: so KVzip takes what it takes for a model without one."""
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    model.config.name_or_path = folder
    return model


def measure_press(reader, full, tokens, name, removed, rounds):
    """A press's row. Reading with it and without takes turns, since the machine's speed drifts."""
    row = {"plain_s": [], "pressed_s": []}
    for each in range(rounds):
        row["plain_s"].append(reader.read(tokens)[1])
        cache, seconds = reader.read(tokens, make_press(name, removed))
        row["pressed_s"].append(seconds)
        if each == 0:
            row["cells"] = kept_cells(reader.model, cache)
            row.update(compared(full, reader.predictions(tokens, cache)))
    return row


def measure_text(reader, llama_full, tokens, names, removed, rounds):
    """What a text gives: the two full caches against each other, and for each press a row or why there is none."""
    full = reader.predictions(tokens, reader.read(tokens)[0])
    found = {"noise": compared(llama_full, full), "presses": {}}
    for name in names:
        print(name, file=sys.stderr, flush=True)
        try:
            found["presses"][name] = measure_press(reader, full, tokens, name, removed, rounds)
        except Exception as error:  # whatever a press throws: the table says it
            found["presses"][name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path, help="a GGUF file")
    parser.add_argument("--text", required=True, action="append", type=pathlib.Path)
    parser.add_argument("--context", required=True, type=int)
    parser.add_argument("--ratio", required=True, type=float)
    parser.add_argument("--rounds", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--presses", required=True)
    parser.add_argument("--json", required=True, type=pathlib.Path)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)  # Compactor draws a sketch
    logging.getLogger("kvpress").setLevel(logging.ERROR)
    texts, predicted = {}, {}
    llm = llama_cpp.Llama(str(given.model), n_ctx=given.context + 2 * PREDICTED, n_threads=given.threads,
                          n_threads_batch=given.threads, logits_all=True, verbose=False)
    for text in given.text:
        tokens = llm.tokenize(text.read_bytes(), add_bos=True, special=True)
        if len(tokens) < given.context + 1 + PREDICTED:
            sys.exit(f"{text}: {len(tokens)} tokens; {given.context + 1 + PREDICTED} are needed")
        texts[text.name], predicted[text.name] = tokens, llama_predictions(llm, tokens, given.context)
    llm.close()  # its threads would wait beside those of torch
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(open_model(given.model, folder), given.context)
        measured = {name: measure_text(reader, predicted[name], tokens, given.presses.split(","),
                                       1 - 1 / given.ratio, given.rounds) for name, tokens in texts.items()}
    versions = {name: importlib.metadata.version(name) for name in ("kvpress", "transformers", "torch")}
    given.json.write_text(json.dumps({"versions": versions, "texts": measured}, indent=1))


if __name__ == "__main__":
    main()
