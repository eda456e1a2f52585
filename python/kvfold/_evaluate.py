"""kvfold eval: how far a compact cache is from the full one, on a text of yours."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Iterable

from . import _cli
from ._errors import Error

Paths = Iterable["str | os.PathLike[str]"]


def evaluate(
    model: str | os.PathLike[str],
    texts: Paths,
    *,
    ratios: Iterable[float] = (8,),
    methods: Iterable[str] = ("keep_last", "select", "solver", "refine"),
    tasks: Iterable[str] = ("continuation",),
    seeds: Iterable[int] = (1,),
    threads: int = 0,
    html: str | os.PathLike[str] | None = None,
    args: Iterable[object] = (),
) -> dict[str, Any]:
    """What `kvfold eval --json` prints: a dict with "rows", one for each method and ratio (means over texts and
    seeds), and "runs", one for each text and seed.

    model: a GGUF file. texts: text files. html: where the report goes too. args: further options of `kvfold eval`."""

    def joined(values: Iterable[object]) -> str:
        return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)

    words: list[object] = ["eval", "-m", os.fspath(model)]
    for text in texts:
        words += ["-f", os.fspath(text)]
    words += ["--ratios", joined(ratios), "--methods", joined(methods), "--tasks", joined(tasks)]
    words += [
        "--seeds",
        joined(seeds),
        *(["-t", threads] if threads else []),
        *(["--html", os.fspath(html)] if html else []),
    ]
    command, environment = _cli.prepare([str(word) for word in (*words, *args, "--json")])
    done = subprocess.run(
        command, env=environment, text=True, errors="replace", stdin=subprocess.DEVNULL, capture_output=True
    )
    if done.returncode != 0:
        raise Error((done.stderr.strip().splitlines() or [f"kvfold eval ended with code {done.returncode}"])[-1])
    return json.loads(done.stdout)
