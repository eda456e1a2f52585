"""An unmodified llama-server inside `kvfold serve`, for the time of a with block."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any, Iterable

from . import _cli
from ._errors import Error, InvalidArgument

STOP_S = 10


class Server:
    """What serve() returns. url: of the server, known once it is started. admin_url: of kvfold's dashboard."""

    url: str = ""
    admin_url: str = ""

    def __init__(self, words: list[str], start_s: float) -> None:
        self._words, self._start_s = words, start_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        command, environment = _cli.prepare(self._words)
        self._log = tempfile.NamedTemporaryFile(prefix="kvfold-serve-", suffix=".log")
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def log(self) -> str:
        """What server and kvfold have said."""
        with open(self._log.name, errors="replace") as log:
            return log.read()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._log.close()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + self._start_s
        while time.monotonic() < end:
            said = self.log()
            if process.poll() is not None:
                raise Error(f"llama-server ended with code {process.returncode}: {complaint(said)}")
            listening = re.search(r"listening on (http://[^\s,]+)", said)
            if listening and is_healthy(listening[1]):
                dashboard = re.search(r"dashboard at (http://\S+?)/?\s", said)
                self.url, self.admin_url = listening[1], dashboard[1] if dashboard else ""
                return
            time.sleep(0.05)
        raise Error(f"llama-server was not ready within {self._start_s:g} s: {complaint(self.log())}")


def complaint(said: str) -> str:
    """The first line that tells of an error, else the last one."""
    lines = [line.strip() for line in said.strip().splitlines()] or ["it said nothing"]
    return next((line for line in lines if " E " in line or "error" in line.lower()), lines[-1])


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):  # 503 while the model loads
        return False


def serve(
    model: str | os.PathLike[str] | None,
    virtual: int = 4,
    *,
    args: Iterable[object] = (),
    options: Iterable[object] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    start_s: float = 600,
) -> Server:
    """with kvfold.serve("model.gguf", virtual=4, args=["-c", 16384]) as server: ... server.url + "/v1"

    args: of llama-server; model None when they name it. options: further ones of `kvfold serve`, such as
    ["--admin", "127.0.0.1:0"]. port 0: any that is free. start_s: seconds until the model must be loaded."""
    if not 1 <= virtual <= 1024:
        raise InvalidArgument(f"virtual is {virtual}; give 1 to 1024")
    mine = ["-m", os.fspath(model)] if model is not None else []
    words = ["serve", "--virtual", virtual, *options, "--", *mine, "--host", host, "--port", port, *args]
    return Server([str(word) for word in words], start_s)
