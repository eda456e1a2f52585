#!/usr/bin/env python3
"""Measures `kvfold serve` beside the stock llama-server: a long document and five questions, pauses, overhead.

    make build && eval "$(scripts/setup --print-env)" && export KVFOLD_LLAMA_PREFIX KVFOLD_MODEL_SMOL
    bench/serve.py                 # writes docs/results-serve.md; some minutes on two idle cores
"""

import concurrent.futures
import http.client
import itertools
import json
import os
import pathlib
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "server"), str(ROOT / "tests" / "cli")]
os.environ.setdefault("KVFOLD_BIN", str(ROOT / "build" / "bin" / "kvfold"))

from llama_server import LlamaServer  # noqa: E402

CONTEXT, VIRTUAL, DOCUMENT_TOKENS = 8192, 4, 6000
OPTIONS = ("--virtual", VIRTUAL, "--admin", "127.0.0.1:0")
DOCUMENT = pathlib.Path("/usr/share/common-licenses/GPL-3")
QUESTIONS = ["What is this text about?", "Who may copy it?", "What does it say about patents?",
             "What happens when the terms are violated?", "Does it give a warranty?"]
ROUNDS = 5
SLOTS = 4
STOPS = 3
HUNG_S = 30
BATCHES = ("-b", "256", "-ub", "256")  # many, so that a prompt can be watched while it is read


def document(server):
    """The first 6000 tokens of the text, and a prompt that ends where a token ends."""
    text = DOCUMENT.read_text()
    tokens = server.tokenize(text)[:DOCUMENT_TOKENS]
    assert len(tokens) == DOCUMENT_TOKENS, f"{DOCUMENT} is too short"
    return server.ask("/detokenize", {"tokens": tokens})["content"]


def stream(server, prompt, n_predict):
    """Seconds between the pieces of a streamed answer, the first not counted."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.base).netloc, timeout=600)
    body = {"prompt": prompt, "n_predict": n_predict, "temperature": 0, "stream": True, "ignore_eos": True}
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    answer, pieces, last, text = connection.getresponse(), [], None, ""
    for line in answer:
        if not line.startswith(b"data: "):
            continue
        now = time.monotonic()
        if last is not None:
            pieces.append(now - last)
        last = now
        text += json.loads(line[6:]).get("content", "")
    connection.close()
    return pieces, text


def resident_mb(server, name="llama-server"):
    """Of the server itself, which kvfold serve runs as its child."""
    pid = server.process.pid
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for candidate in [*children, str(pid)]:
        status = pathlib.Path(f"/proc/{candidate}/status").read_text()
        if f"Name:\t{name}" in status:
            return int(status.split("VmRSS:")[1].split()[0]) / 1024
    raise RuntimeError(f"no {name} below process {pid}")


def converse(server):
    """The document and five questions; what the last answers cost."""
    text = document(server)
    start = time.monotonic()
    first = server.complete(text, 1)
    read_s = time.monotonic() - start
    speeds, answers, cached = [], [], []
    text += first["content"]
    for question in QUESTIONS:
        text += f"\n\nQuestion: {question}\nAnswer:"
        answer = server.complete(text, 48, ignore_eos=True)
        answers.append(answer["timings"]["predicted_n"])
        cached.append(answer["timings"]["cache_n"])
        speeds.append(answer["timings"]["predicted_per_second"])
        text += answer["content"]
    wait_for_folds(server)
    settled = server.complete(text + "\n\nAnd", 96, ignore_eos=True)["timings"]["predicted_per_second"]
    return {"read_s": read_s, "answered": sum(n > 0 for n in answers), "decode_tok_s": speeds,
            "settled_decode_tok_s": settled, "cache_n": cached, "resident_mb": resident_mb(server)}


def wait_for_folds(server):
    if "kvfold: dashboard" in server.log():
        while any(sequence["folding"] for sequence in server.admin("/sequences")["sequences"]):
            time.sleep(0.2)


def pauses(server, prompt_tokens):
    """A streamed answer long enough for folds to run beside it."""
    text = document(server)[:prompt_tokens * 4]
    server.complete(text, 1)
    gaps, _ = stream(server, text, 1200)
    return {"pieces": len(gaps), "median_ms": 1000 * statistics.median(gaps), "longest_ms": 1000 * max(gaps)}


def prefill_step_ms(server):
    """What a decode step of 512 prompt tokens takes, mean over 2000 tokens: a pause that every server has."""
    text = document(server)
    whole = server.complete(text[:len(text) // 3], 1, cache_prompt=False)["timings"]
    return 512 * whole["prompt_per_token_ms"]


def in_turn(servers):
    """(name, server) of both, ROUNDS times, each first in every other round."""
    for turn in range(ROUNDS):
        yield from servers.items() if turn % 2 == 0 else reversed(servers.items())


def prompts_at_once(model, folder):
    """Prompt tokens a second while four slots read at once and nothing is folded, of both servers in turn."""
    speeds = {"stock": [], "kvfold": []}
    options = {"context": CONTEXT, "threads": 2, "slots": SLOTS}
    with LlamaServer(model, folder, "-kvu", **options) as stock, \
            LlamaServer(model, tempfile.mkdtemp(dir=folder), "-kvu", kvfold=OPTIONS, **options) as folding:
        passages = [stock.passage("manual", 350 * slot, 350 * slot + 350) for slot in range(SLOTS)]
        for name, server in in_turn({"stock": stock, "kvfold": folding}):
            start = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(SLOTS) as pool:
                list(pool.map(lambda slot: server.complete(passages[slot], 1, id_slot=slot, cache_prompt=False),
                              range(SLOTS)))
            speeds[name].append(sum(map(len, passages)) / (time.monotonic() - start))
        assert folding.admin("/state")["totals"]["folds"] == 0
    return speeds


class Reading:
    """A prompt that a server reads; when it told of each batch that it had read."""

    def __init__(self, server, prompt):
        self.told, self.server = [], server
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.base).netloc, timeout=600)
        body = {"prompt": prompt, "n_predict": 1, "stream": True, "return_progress": True}
        self.connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self):
        try:
            for line in self.connection.getresponse():
                if line.startswith(b"data: "):
                    self.told.append(time.monotonic())
        except (OSError, http.client.HTTPException):
            pass  # the server has ended

    def wait_until(self, is_so):
        while not is_so():
            if not self.listener.is_alive():
                raise RuntimeError("the prompt was read to its end before the moment that was waited for")
            time.sleep(0.005)

    def stands_still_for(self):
        return time.monotonic() - self.told[-1]

    def stop(self):
        """Seconds from SIGTERM to the end of the server. None: it hangs in its own handler of the signal, which waits for a
        lock that the interrupted thread holds."""
        start = time.monotonic()
        self.server.process.terminate()
        while "cleaning up before exit" not in self.server.log():
            if time.monotonic() - start > HUNG_S:
                print("llama-server hangs in its signal handler; once more", file=sys.stderr)
                return None
            time.sleep(0.005)
        self.connection.sock.shutdown(socket.SHUT_RDWR)  # llama-server waits for those who wait for it
        self.server.process.wait()
        return time.monotonic() - start


def stop_s(model, folder):
    """Alone: as a batch begins. With kvfold: while the reader waits for a fold."""
    seconds = {"stock": [], "kvfold": []}
    while min(map(len, seconds.values())) < STOPS:
        with LlamaServer(model, folder, *BATCHES, context=CONTEXT, threads=2) as server:
            reading = Reading(server, document(server))
            reading.wait_until(lambda: len(reading.told) >= 4)
            batch_s = max(later - earlier for earlier, later in itertools.pairwise(reading.told))
            seconds["stock"] += filter(None, [reading.stop()])
        with LlamaServer(model, folder, *BATCHES, context=CONTEXT, threads=2, kvfold=OPTIONS) as server:
            reading = Reading(server, document(server))
            is_folding = lambda: any(one["folding"] for one in server.admin("/sequences")["sequences"])
            reading.wait_until(lambda: len(reading.told) >= 4 and reading.stands_still_for() > 1.5 * batch_s
                               and is_folding())
            seconds["kvfold"] += filter(None, [reading.stop()])
    return seconds


def overhead(model, folder):
    """Decode speed of the stock server and of one that is only watched, in turn."""
    speeds = {"stock": [], "watched": []}
    with LlamaServer(model, folder, context=2048, threads=2) as stock, \
            LlamaServer(model, tempfile.mkdtemp(dir=folder), context=2048, threads=2, kvfold=()) as watched:
        for server in (stock, watched):
            server.complete("Once upon a time", 16)
        for turn, (name, server) in enumerate(in_turn({"stock": stock, "watched": watched})):
            answer = server.complete(f"{turn // 2} Once upon a time", 128, ignore_eos=True)
            speeds[name].append(answer["timings"]["predicted_per_second"])
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {"stock_tok_s": medians["stock"], "watched_tok_s": medians["watched"],
            "overhead": medians["stock"] / medians["watched"] - 1, "stock_spread": [min(speeds["stock"]), max(speeds["stock"])],
            "watched_spread": [min(speeds["watched"]), max(speeds["watched"])]}


def measure():
    model = os.environ["KVFOLD_MODEL_SMOL"]
    report = {"context": CONTEXT, "virtual": VIRTUAL, "document_tokens": DOCUMENT_TOKENS}
    with tempfile.TemporaryDirectory() as folder:
        with LlamaServer(model, folder, context=CONTEXT, threads=2) as server:
            report["stock"] = converse(server)
            report["prefill_512_ms"] = prefill_step_ms(server)
        with LlamaServer(model, folder, context=CONTEXT, threads=2, kvfold=OPTIONS) as server:
            report["kvfold"] = converse(server)
            state = server.admin("/state")
            context = state["context"]
            report["kvfold"].update(folds=state["totals"]["folds"], cells=context["cells"],
                                    cells_used=state["totals"]["cells_used"],
                                    cache_mb=context["cells"] * context["cell_bytes"] / 1e6)
            report["stock"]["cache_mb"] = CONTEXT * context["cell_bytes"] / 1e6
        with LlamaServer(model, folder, context=CONTEXT, threads=2, kvfold=OPTIONS) as server:
            report["streaming"] = pauses(server, prompt_tokens=1300)
            report["streaming"]["folds"] = server.admin("/state")["totals"]["folds"]
        report["prompts_at_once"] = prompts_at_once(model, folder)
        report["stop_s"] = stop_s(model, folder)
        report["overhead"] = overhead(model, folder)
    return report


def page(report, commit):
    stock, folded, streaming, idle = (report[name] for name in ("stock", "kvfold", "streaming", "overhead"))

    def row(what, value):
        return f"| {what} | {value(stock)} | {value(folded)} |"

    def speeds(server):
        return ", ".join(f"{speed:.1f}" for speed in server["decode_tok_s"])

    def late(server):
        return f"{statistics.median(report['stop_s'][server]):.1f} s ({max(report['stop_s'][server]):.1f} s)"

    at_once = report["prompts_at_once"]
    ratios = [ours / theirs for ours, theirs in zip(at_once["kvfold"], at_once["stock"])]
    gain = folded["settled_decode_tok_s"] / stock["settled_decode_tok_s"]
    return "\n".join([
        "# Results of kvfold serve",
        "",
        f"Written by `bench/serve.py` at commit {commit}, {platform.machine()}, {os.cpu_count()} processors, "
        "SmolLM2-135M-Instruct. Both servers read the same "
        f"{report['document_tokens']} tokens of GPL-3 and answer five questions of 48 tokens each, the whole text sent "
        "again every time.",
        "",
        f"| | `llama-server -c {report['context']}` | `kvfold serve --virtual {report['virtual']} -- -c {report['context']}` |",
        "| --- | --- | --- |",
        row("cells", lambda s: s.get("cells", report["context"])),
        row("memory of the cache, MB", lambda s: f"{s['cache_mb']:.1f}"),
        row("resident memory afterwards, MB", lambda s: f"{s['resident_mb']:.0f}"),
        row("reading the document, s", lambda s: f"{s['read_s']:.1f}"),
        row("questions answered", lambda s: f"{s['answered']} of {len(QUESTIONS)}"),
        row("tokens found in the cache, question by question", lambda s: ", ".join(map(str, s["cache_n"]))),
        row("decode tok/s, question by question", speeds),
        row("decode tok/s at the end", lambda s: f"{s['settled_decode_tok_s']:.1f}"),
        "",
        f"Decode at the end is {gain:.2f} times as fast. The document was folded {folded['folds']} times, with the "
        "default method; reading it takes longer because cells run out while it is read and the reader waits for the "
        "folds. The first questions share the processors with the last fold.",
        "",
        f"A streamed answer of {streaming['pieces']} tokens during which {streaming['folds']} fold(s) ran in the "
        f"background: {streaming['median_ms']:.0f} ms between tokens (median), the longest pause "
        f"{streaming['longest_ms']:.0f} ms. A decode step of 512 prompt tokens, which every server takes now and then, "
        f"lasts {report['prefill_512_ms']:.0f} ms.",
        "",
        f"{SLOTS} slots read prompts of 350 tokens at once, and nothing is folded: "
        f"{statistics.median(at_once['kvfold']):.0f} tok/s with kvfold, {statistics.median(at_once['stock']):.0f} without; "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}), medians of {ROUNDS} interleaved "
        "rounds.",
        "",
        f"Told to stop, the server alone ends {late('stock')} after SIGTERM as it begins a batch of a prompt; with kvfold "
        f"{late('kvfold')} after SIGTERM while the prompt waits for a fold: median and largest of {STOPS}.",
        "",
        f"Watched only (no options): {idle['watched_tok_s']:.1f} tok/s ({idle['watched_spread'][0]:.1f} - "
        f"{idle['watched_spread'][1]:.1f}) against {idle['stock_tok_s']:.1f} ({idle['stock_spread'][0]:.1f} - "
        f"{idle['stock_spread'][1]:.1f}) of the server alone, medians of {ROUNDS} interleaved rounds: overhead "
        f"{idle['overhead']:+.1%}.",
        "",
    ])


def main():
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.strip()
    report = measure()
    json.dump(report, sys.stdout, indent=2)
    (ROOT / "docs" / "results-serve.md").write_text(page(report, commit))


if __name__ == "__main__":
    main()
