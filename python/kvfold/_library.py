"""libkvfold over ctypes: loaded at the first call, into a process that has exactly one libllama.

The library is linked against libllama.so.0 without a path. The loader gives it the libllama that is in the process
already, whoever brought it; so that one must be there first.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import pathlib
import sys
from typing import Any

from . import _find
from ._errors import error_of

PACKAGE = pathlib.Path(__file__).resolve().parent
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"

ProgressCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_int, ctypes.c_float, ctypes.c_void_p)


class CompactParams(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("method", ctypes.c_char_p),
        ("ratio", ctypes.c_double),
        ("keep_first", ctypes.c_int32),
        ("keep_last", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("context_params", ctypes.c_void_p),
        ("n_threads", ctypes.c_int32),
        ("progress", ProgressCallback),
        ("progress_data", ctypes.c_void_p),
        ("archive", ctypes.c_void_p),
        ("solve_on", ctypes.c_char_p),
    ]


class CompactReport(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("cells_before", ctypes.c_size_t),
        ("cells_after", ctypes.c_size_t),
        ("bytes_before", ctypes.c_size_t),
        ("bytes_after", ctypes.c_size_t),
        ("study_tokens", ctypes.c_size_t),
        ("snapshot_s", ctypes.c_double),
        ("study_s", ctypes.c_double),
        ("solve_s", ctypes.c_double),
        ("swap_s", ctypes.c_double),
        ("absorb_residual", ctypes.c_float),
        ("output_error", ctypes.c_float),
        ("mass_error", ctypes.c_float),
        ("method", ctypes.c_char_p),
        ("layers_solved", ctypes.c_size_t),
        ("layers_on_devices", ctypes.c_size_t),
    ]


class SequenceInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("cells", ctypes.c_size_t),
        ("folded_cells", ctypes.c_size_t),
        ("folded_end", ctypes.c_int32),
        ("end", ctypes.c_int32),
    ]


TOKENS = ctypes.POINTER(ctypes.c_int32)
SIZE, POINTER_TO_SIZE = ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "kvfold_version": (ctypes.c_char_p, []),
    "kvfold_last_error": (ctypes.c_char_p, []),
    "kvfold_method_count": (SIZE, []),
    "kvfold_method_name": (ctypes.c_char_p, [SIZE]),
    "kvfold_method_advice": (ctypes.c_char_p, [SIZE]),
    "kvfold_compact_params_init": (ctypes.c_int, [ctypes.POINTER(CompactParams), SIZE]),
    "kvfold_compact_report_init": (ctypes.c_int, [ctypes.POINTER(CompactReport), SIZE]),
    "kvfold_context_check": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p]),
    "kvfold_sequence_inspect": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(SequenceInfo)]),
    "kvfold_sequence_compact": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_int32, TOKENS, SIZE, ctypes.POINTER(CompactParams), ctypes.POINTER(CompactReport)],
    ),
    "kvfold_archive_init": (ctypes.c_void_p, [SIZE]),
    "kvfold_archive_free": (None, [ctypes.c_void_p]),
    "kvfold_archive_bytes": (SIZE, [ctypes.c_void_p]),
    "kvfold_archive_save": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p]),
    "kvfold_archive_load": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p]),
    "kvfold_sequence_unfold": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]),
    "kvfold_slot_save": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, TOKENS, SIZE]),
    "kvfold_slot_load": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, TOKENS, SIZE, POINTER_TO_SIZE],
    ),
}


def library_path(variable: str, name: str) -> pathlib.Path:
    """The file that the environment variable names, else the one in this package. Raises ImportError without one."""
    given = os.environ.get(variable)
    path = pathlib.Path(given) if given else PACKAGE / "lib" / f"{name}{SUFFIX}"
    if not path.is_file():
        raise ImportError(f"{path}: no such library; install kvfold with pip, or name the library in {variable}")
    return path


def raise_error(library: ctypes.CDLL, code: int) -> None:
    """What the library says of a call that returned this kvfold_error; nothing for 0."""
    if code != 0:
        raise error_of(code, library.kvfold_last_error().decode(errors="replace"))


def is_llama_loaded() -> bool:
    return sys.platform == "linux" and bool(_find.loaded_llamas())


def bring_llama() -> ctypes.CDLL | None:
    """The handle of the libllama that llama-cpp-python has, or of one found elsewhere; None when another binding has
    loaded one already."""
    if "llama_cpp" in sys.modules or importlib.util.find_spec("llama_cpp"):
        try:
            from llama_cpp import llama_cpp
        except Exception as error:  # its loader raises RuntimeError and FileNotFoundError too
            raise ImportError(f"llama-cpp-python is installed and cannot be imported: {error}") from error
        return llama_cpp._lib
    if is_llama_loaded():
        return None
    found, refused = _find.first_usable()
    if found is None:
        raise ImportError("; ".join(["kvfold needs llama.cpp and found none", *refused, _find.REMEDY]))
    try:
        return ctypes.CDLL(str(found.libllama))
    except OSError as error:
        raise ImportError(f"{found.libllama} cannot be loaded: {error}; {_find.REMEDY}") from None


def address(library: ctypes.CDLL, name: str) -> int | None:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def check_one_llama(kvfold: ctypes.CDLL, llama: ctypes.CDLL | None) -> None:
    """Two copies in a process have two sets of contexts: kvfold would read the pointers of one with the other's code.
    A handle finds the symbols of its own dependencies, so this compares what each of the two calls."""
    same = llama is None or address(kvfold, "llama_decode") == address(llama, "llama_decode")
    copies = _find.loaded_llamas() if sys.platform == "linux" else []
    if same and len(copies) < 2:
        return
    where = " and ".join(map(str, copies)) or "two places"
    raise ImportError(
        f"this process has two copies of llama.cpp, from {where}; start Python without the second one "
        "(LD_LIBRARY_PATH, LD_PRELOAD, another binding), or import kvfold's binding first"
    )


@functools.lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """Raises ImportError, which says what to do."""
    llama = bring_llama()
    path = library_path("KVFOLD_LIBRARY", "libkvfold")
    try:
        kvfold = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"{path} cannot be loaded with the llama.cpp in this process: {error}") from None
    for name, (result, arguments) in SIGNATURES.items():
        try:
            function = getattr(kvfold, name)
        except AttributeError:
            raise ImportError(f"{path} has no {name}: it is older than this package; install both anew") from None
        function.restype, function.argtypes = result, arguments
    check_one_llama(kvfold, llama)
    return kvfold


def call(name: str, *arguments: Any) -> None:
    """A call that returns a kvfold_error; raises what it says."""
    library = load()
    raise_error(library, getattr(library, name)(*arguments))
