"""kvfold doctor: where llama.cpp is looked for, what was found there, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from . import _cli, _find

USAGE = "usage: kvfold doctor [--json]\nWhere kvfold looks for llama.cpp, and whether it works with what is there."


def run_with(llama: _find.Llama, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_cli.program(), *arguments],
        env=_cli.environment(llama, is_serve=False),
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


def examine(llama: _find.Llama) -> dict[str, Any]:
    """says: what the program itself has to say of this llama.cpp, where it has that command."""
    found: dict[str, Any] = {
        "source": llama.source,
        "folder": str(llama.folder),
        "version": llama.version,
        "server": str(llama.server) if llama.server else None,
        "problem": llama.problem,
        "says": None,
    }
    if llama.problem:
        return found
    try:
        started = run_with(llama, "--version")
    except OSError as error:
        return {**found, "problem": f"kvfold's program cannot be started: {error}"}
    if started.returncode != 0:
        return {**found, "problem": (started.stderr.strip().splitlines() or ["kvfold's program does not run"])[-1]}
    help_of = run_with(llama, "doctor", "--help")
    if help_of.returncode == 0 and help_of.stdout != run_with(llama, "--help").stdout:
        checked = run_with(llama, "doctor", "--json")
        found["says"] = json.loads(checked.stdout) if checked.stdout.strip() else None
        if checked.returncode != 0:
            found["problem"] = checked.stderr.strip() or "kvfold's own checks failed"
    return found


def advice(found: list[dict[str, Any]]) -> str:
    usable = [one for one in found if not one["problem"]]
    if not usable:
        return _find.REMEDY
    if not any(one["server"] for one in usable):
        return "kvfold serve takes the llama-server in PATH; without one, install llama.cpp with its programs"
    return ""


def lines(found: list[dict[str, Any]]) -> list[str]:
    text = [f"kvfold at {_cli.PROGRAM.parent.parent}"]
    for one in found:
        text.append(f"llama.cpp {one['version'] or '(version unknown)'} in {one['folder']} ({one['source']})")
        text.append(f"  {one['problem'] or 'works'}; " + (one["server"] or "no llama-server beside it"))
        if one["says"] is not None:
            text += ["  " + line for line in json.dumps(one["says"], indent=2).splitlines()]
    if not found:
        text.append("no llama.cpp found: not llama-cpp-python's, none in ldconfig's list, /usr/local or Homebrew")
    return [*text, *(["do: " + advice(found)] if advice(found) else [])]


def main(arguments: list[str]) -> int:
    """0 when some llama.cpp works."""
    if arguments in (["--help"], ["-h"]):
        print(USAGE)
        return 0
    if arguments not in ([], ["--json"]):
        print(f"kvfold doctor: what is {' '.join(arguments)}? {USAGE}", file=sys.stderr)
        return 2
    found = [examine(candidate) for candidate in _find.candidates()]
    if arguments:
        print(json.dumps({"candidates": found, "advice": advice(found)}, indent=2))
    else:
        print("\n".join(lines(found)))
    return 0 if any(not one["problem"] for one in found) else 1
