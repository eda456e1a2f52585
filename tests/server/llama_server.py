"""An unmodified llama-server on a port of its own; it never outlives the test that started it."""
import ctypes
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from command import TEXTS, needed

START_S = 60
FOLDING = ("--virtual", 8, "--method", "select", "--admin", "127.0.0.1:0")  # select: the quickest that folds
ANSWER_S = 120


def die_with_parent():
    """On Linux also a killed test takes its server along."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class LlamaServer:
    """with LlamaServer(model, folder, "--swa-full") as server: server.restore("a.slot")"""

    def __init__(self, model, folder, *flags, context=2048, threads=1, slots=1, kvfold=None):
        """model: a file, or a folder of them for the server's router mode.
        kvfold: options of `kvfold serve`, which then starts the server; None = the server alone.
        threads: 1, so that tests that run beside one another do not wait for each other's processor."""
        program = pathlib.Path(needed("KVFOLD_LLAMA_PREFIX")) / "bin" / "llama-server"
        start = [str(program)] if kvfold is None else [needed("KVFOLD_BIN"), "serve", *map(str, kvfold), "--"]
        # Port 0: the system chooses, and the log tells. The prompt cache in RAM is off: it could answer for a
        # prompt that the slot file should have answered for.
        models = ["--models-dir" if pathlib.Path(model).is_dir() else "-m", str(model)]
        self.argv = [*start, *models, "--host", "127.0.0.1", "--port", "0", "-np", str(slots), "-c", str(context),
                     "-t", str(threads), "--slot-save-path", str(folder), "--cache-ram", "0", "--offline", *flags]
        self.log_path = pathlib.Path(folder) / "llama-server.log"
        self.process = None
        self.base = None

    def __enter__(self):
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"llama-server ended with code {self.process.returncode}:\n{self.log()}")
            listening = re.search(r"listening on (http://\S+)", self.log())
            if listening:
                self.base = listening[1]
                try:
                    if self.ask("/health")["status"] == "ok":
                        return
                except urllib.error.HTTPError as error:
                    if error.code != 503:  # 503: still loading the model
                        raise
            time.sleep(0.1)
        raise RuntimeError(f"llama-server was not ready within {START_S} s:\n{self.log()}")

    def ask(self, path, body=None, base=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request((base or self.base) + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return json.load(answer)

    def kvfold_log(self):
        return [line for line in self.log().splitlines() if line.startswith("kvfold: ")]

    def admin(self, path, body=None):
        """Of a server started with --admin 127.0.0.1:0."""
        return self.ask(path, body, self.admin_base())

    def admin_base(self):
        return re.search(r"kvfold: dashboard at (http://[^/\s]+)", self.log())[1]

    def save(self, filename):
        return self.ask("/slots/0?action=save", {"filename": filename})

    def restore(self, filename):
        return self.ask("/slots/0?action=restore", {"filename": filename})

    def erase(self):
        return self.ask("/slots/0?action=erase", {})

    def tokenize(self, text):
        """The tokens of a prompt: /completion adds and parses special tokens in the same way."""
        return self.ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    def passage(self, name, first, last):
        """Tokens first to last of a text."""
        return self.ask("/tokenize", {"content": (TEXTS / f"{name}.txt").read_text()})["tokens"][first:last]

    def complete(self, prompt, n_predict=1, **fields):
        """prompt: text or tokens; "tokens" of the answer go on behind the latter as they were decoded."""
        return self.ask("/completion", {"prompt": prompt, "n_predict": n_predict, "n_probs": 1, "temperature": 0,
                                        "cache_prompt": True, "return_tokens": True, "ignore_eos": True, **fields})

    def chat(self, messages, max_tokens):
        return self.ask("/v1/chat/completions", {"messages": messages, "max_tokens": max_tokens, "temperature": 0})
