"""kvfold makes the KV cache of a running llama.cpp model several times smaller (arXiv 2602.16284).

Importing this loads nothing: each name is brought by its first use, and llama.cpp by the first call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._archive import Archive as Archive, unfold as unfold
    from ._attach import Attached as Attached, attach as attach
    from ._cache import FoldedCache as FoldedCache
    from ._compact import (
        Method as Method,
        Report as Report,
        check as check,
        compact as compact,
        load as load,
        methods as methods,
        save as save,
    )
    from ._errors import (
        Busy as Busy,
        Cancelled as Cancelled,
        Corrupt as Corrupt,
        Error as Error,
        FileError as FileError,
        Internal as Internal,
        InvalidArgument as InvalidArgument,
        LlamaError as LlamaError,
        Lost as Lost,
        NotFound as NotFound,
        Numeric as Numeric,
        OutOfMemory as OutOfMemory,
        Unsupported as Unsupported,
    )
    from ._evaluate import evaluate as evaluate
    from ._heads import Head as Head, solve_head as solve_head
    from ._serve import Server as Server, serve as serve

__version__ = "0.1.0"

_HOMES = {
    "_archive": ("Archive", "unfold"),
    "_attach": ("Attached", "attach"),
    "_cache": ("FoldedCache",),
    "_compact": ("Method", "Report", "check", "compact", "load", "methods", "save"),
    "_errors": (
        "Busy",
        "Cancelled",
        "Corrupt",
        "Error",
        "FileError",
        "Internal",
        "InvalidArgument",
        "LlamaError",
        "Lost",
        "NotFound",
        "Numeric",
        "OutOfMemory",
        "Unsupported",
    ),
    "_evaluate": ("evaluate",),
    "_heads": ("Head", "solve_head"),
    "_serve": ("Server", "serve"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kvfold' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
