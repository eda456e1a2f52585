"""kvfold doctor: where llama.cpp is looked for, what was found there, and what to do."""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

from . import _cli, _find


def ask(llama: _find.Llama, model: str | None) -> tuple[dict[str, Any] | None, str]:
    """What the program itself says of a llama.cpp, and what is wrong with it, which is empty when it works."""
    try:
        done = subprocess.run(
            [_cli.program(), "doctor", "--json", *(["-m", model] if model else [])],
            env=_cli.environment(llama, is_serve=True),
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    except OSError as error:
        return None, f"kvfold's program cannot be started: {error}"
    says = json.loads(done.stdout) if done.stdout.strip() else None
    if done.returncode == 0:
        return says, ""
    wrong = [f"{about}: {result}" for about, result in says["checks"].items() if result != "ok"] if says else []
    said = done.stderr.strip().splitlines() or [f"kvfold's program ended with code {done.returncode}"]
    return says, "; ".join(wrong) or said[-1]


def examine(llama: _find.Llama, model: str | None) -> dict[str, Any]:
    says, problem = (None, llama.problem) if llama.problem else ask(llama, model)
    return {
        "source": llama.source,
        "folder": str(llama.folder),
        "version": llama.version,
        "server": str(llama.server) if llama.server else None,
        "problem": problem,
        "says": says,
    }


def is_fit(one: dict[str, Any]) -> bool:
    """Whether it works, perhaps with other models."""
    return not one["problem"] or one["problem"].startswith("model: ")


def prefix_of(folder: str) -> pathlib.Path:
    """What KVFOLD_LLAMA_PREFIX is set to so that libraries are taken from the folder."""
    above = pathlib.Path(folder).parent
    return above if _find.of_prefix("", above).folder == pathlib.Path(folder) else above.parent


def advice(found: list[dict[str, Any]], taken: dict[str, Any] | None) -> str:
    fit = [one for one in found if is_fit(one)]
    if taken is None or not fit:
        return _find.REMEDY
    if not is_fit(taken):
        return f"set KVFOLD_LLAMA_PREFIX={prefix_of(fit[0]['folder'])}, which works, or remove the one that does not"
    if not any(one["server"] for one in fit):
        return "kvfold serve takes the llama-server in PATH; without one, install llama.cpp with its programs"
    return ""


def lines(found: list[dict[str, Any]], taken: dict[str, Any] | None) -> list[str]:
    text = [f"kvfold at {_cli.PROGRAM.parent.parent}"]
    for one in found:
        which = ", which kvfold takes" if one is taken else ""
        text.append(f"llama.cpp {one['version'] or '(version unknown)'} in {one['folder']} ({one['source']}){which}")
        text.append(f"  {one['problem'] or 'works'}; " + (one["server"] or "no llama-server beside it"))
        says = one["says"]
        if says:
            backends = ", ".join(backend["name"] for backend in says["backends"]) or "not asked"
            names = f"llama.cpp {says['llama_cpp']['version']}, ggml {says['ggml']['version']}"
            text.append(f"  {names}; backends: {backends}")
            text += [f"  warning: {says['warning']}"] if says["warning"] else []
    if not found:
        text.append("no llama.cpp found: not llama-cpp-python's, none in ldconfig's list, /usr/local or Homebrew")
    return [*text, *(["do: " + advice(found, taken)] if advice(found, taken) else [])]


def main(arguments: list[str]) -> int:
    """0 when the llama.cpp that kvfold takes works, and with the model, where one is named."""
    parser = argparse.ArgumentParser(
        prog="kvfold doctor", description="Where kvfold looks for llama.cpp, and whether it works with what is there."
    )
    parser.add_argument("-m", "--model", metavar="MODEL", help="also check a model, a GGUF file")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="print JSON; --json=FILE writes it to FILE"
    )
    options = parser.parse_args(arguments)
    candidates = _find.candidates()
    found = [examine(candidate, options.model) for candidate in candidates]
    first = _cli.for_command(candidates, is_serve=False)
    taken = next((one for candidate, one in zip(candidates, found) if candidate is first), None)
    if options.json:
        place = taken["folder"] if taken else None
        text = json.dumps({"candidates": found, "taken": place, "advice": advice(found, taken)}, indent=2)
    else:
        text = "\n".join(lines(found, taken))
    if options.json in (None, "-"):
        print(text)
    else:
        try:
            pathlib.Path(options.json).write_text(text + "\n")
        except OSError as error:
            print(f"kvfold: {error}", file=sys.stderr)
            return 1
    return 0 if taken and not taken["problem"] else 1
