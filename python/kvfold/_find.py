"""Where llama.cpp is. Nothing here loads it."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import sys
from dataclasses import dataclass
from typing import Iterator

REMEDY = "pip install llama-cpp-python, or set KVFOLD_LLAMA_PREFIX to the prefix of a llama.cpp"
LLAMA = "libllama.0.dylib" if sys.platform == "darwin" else "libllama.so.0"
PLAIN = "libllama.dylib" if sys.platform == "darwin" else "libllama.so"  # wheels carry no symbolic links


@dataclass(frozen=True)
class Llama:
    """A folder that may hold llama.cpp's libraries. problem: why kvfold cannot use it; empty when it can."""

    source: str
    folder: pathlib.Path
    server: pathlib.Path | None = None
    problem: str = ""

    @property
    def libllama(self) -> pathlib.Path:
        return next((path for path in (self.folder / LLAMA, self.folder / PLAIN) if path.exists()), self.folder / LLAMA)

    @property
    def version(self) -> str:
        """As a file's name has it; empty where none has."""
        names = [path.name for path in self.folder.glob("libllama*")]
        versions = [re.search(r"libllama(?:\.so)?\.(\d+\.\d+[^/]*?)(?:\.dylib)?$", name) for name in sorted(names)]
        return next((version[1] for version in versions if version), "")


def is_program(path: pathlib.Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def server_of(folder: pathlib.Path) -> pathlib.Path | None:
    """The llama-server that belongs to libraries in a folder."""
    places = (folder.parent / "bin", folder.parent.parent / "bin", folder)
    return next((place / "llama-server" for place in places if is_program(place / "llama-server")), None)


def look_at(source: str, folder: pathlib.Path) -> Llama:
    if not folder.is_dir():
        return Llama(source, folder, problem="no such folder")
    found = Llama(source, folder, server_of(folder))
    if found.libllama.exists():
        return found
    older = sorted(path.name for path in folder.glob("libllama*"))
    problem = f"has {', '.join(older)} but no {LLAMA}" if older else f"holds no {LLAMA}"
    return Llama(source, folder, found.server, problem)


def of_prefix(source: str, prefix: pathlib.Path) -> Llama:
    folders = [prefix / "lib", prefix / "lib64", *sorted((prefix / "lib").glob("*-linux-gnu"))]
    looks = [look_at(source, folder) for folder in folders if folder.is_dir()]
    return next((look for look in looks if not look.problem), looks[0] if looks else look_at(source, prefix / "lib"))


def of_python() -> Iterator[Llama]:
    """llama-cpp-python's, found without importing it."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    if override:
        yield look_at("LLAMA_CPP_LIB_PATH", pathlib.Path(override))
    spec = importlib.util.find_spec("llama_cpp")
    for place in (spec and spec.submodule_search_locations) or []:
        found = look_at("llama-cpp-python", pathlib.Path(place) / "lib")
        # Its wheel has the libraries twice. Programs that it brings were linked to the other copy, which is the same.
        yield Llama(
            found.source, found.folder, found.server or server_of(pathlib.Path(place).parent / "lib"), found.problem
        )


def of_system() -> Iterator[Llama]:
    import shutil
    import subprocess

    if sys.platform == "linux":
        ldconfig = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
        listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True).stdout if ldconfig else ""
        for path in re.findall(rf"{re.escape(LLAMA)} .*=> (\S+)", listing):
            yield look_at("ldconfig", pathlib.Path(path).parent)
    for prefix in ("/usr/local", "/opt/homebrew", "/home/linuxbrew/.linuxbrew"):
        found = of_prefix(prefix, pathlib.Path(prefix))
        if found.libllama.exists():
            yield found


def candidates() -> list[Llama]:
    """All places where llama.cpp may be, in the order in which they are taken. $KVFOLD_LLAMA_PREFIX is taken alone."""
    prefix = os.environ.get("KVFOLD_LLAMA_PREFIX")
    if prefix:
        return [of_prefix("KVFOLD_LLAMA_PREFIX", pathlib.Path(prefix))]
    found: dict[pathlib.Path, Llama] = {}
    for candidate in (*of_python(), *of_system()):
        found.setdefault(candidate.folder.resolve(), candidate)
    return list(found.values())


def first_usable() -> tuple[Llama | None, list[str]]:
    """And why those in front of it are not."""
    refused: list[str] = []
    for candidate in candidates():
        if not candidate.problem:
            return candidate, refused
        refused.append(f"{candidate.folder} ({candidate.source}) {candidate.problem}")
    return None, refused


def loaded_llamas() -> list[pathlib.Path]:
    """The libllama that this process has mapped, by file; Linux alone tells."""
    files: dict[tuple[str, str], pathlib.Path] = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and re.match(r"libllama\.(so|\d)", pathlib.Path(fields[5].strip()).name):
                files.setdefault((fields[3], fields[4]), pathlib.Path(fields[5].strip()))
    return list(files.values())
