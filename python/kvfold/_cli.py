"""The console script kvfold: finds llama.cpp, then becomes the program of that name with it."""

from __future__ import annotations

import os
import pathlib
import sys

from . import _find
from ._errors import Error

PROGRAM = pathlib.Path(__file__).resolve().parent / "bin" / "kvfold"
LIBRARY_PATH = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
BEFORE = "KVFOLD_LIBRARY_PATH_BEFORE"  # kvfold gives it back to the programs that it starts (src/launch/child.cpp)


def program() -> pathlib.Path:
    """$KVFOLD_BIN, else the one in this package."""
    given = os.environ.get("KVFOLD_BIN")
    return pathlib.Path(given) if given else PROGRAM


def environment(llama: _find.Llama, is_serve: bool) -> dict[str, str]:
    """A program that kvfold starts brings its own llama.cpp and must not be led to this one, but for the llama-server
    that belongs to it."""
    changed = dict(os.environ)
    before = changed.get(LIBRARY_PATH, "")
    changed[LIBRARY_PATH] = os.pathsep.join(filter(None, [str(llama.folder), before]))
    server = llama.server if is_serve and llama.server and llama.server.parent.name == "bin" else None
    if server:
        changed["KVFOLD_LLAMA_PREFIX"] = str(server.parent.parent)
    else:
        changed[BEFORE] = before
    return changed


def for_command(candidates: list[_find.Llama], is_serve: bool) -> _find.Llama | None:
    """The first usable; for serve the first that has a llama-server, if one has."""
    usable = [candidate for candidate in candidates if not candidate.problem]
    with_server = [candidate for candidate in usable if is_serve and candidate.server]
    return next(iter(with_server or usable), None)


def prepare(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of kvfold's program."""
    is_serve = arguments[:1] == ["serve"]
    llama = for_command(_find.candidates(), is_serve)
    if llama is None:
        raise Error(f"no usable llama.cpp; {_find.REMEDY}; kvfold doctor says where it looked")
    started = program()
    if not os.access(started, os.X_OK):
        raise Error(f"{started}: no such program; install kvfold with pip")
    return [str(started), *arguments], environment(llama, is_serve)


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["doctor"]:
        from . import _doctor

        return _doctor.main(arguments[1:])
    try:
        words, changed = prepare(arguments)
    except Error as error:
        print(f"kvfold: {error}", file=sys.stderr)
        return 1
    os.execve(words[0], words, changed)


if __name__ == "__main__":
    sys.exit(main())
