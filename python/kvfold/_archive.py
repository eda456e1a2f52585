"""What folds replaced, kept in host memory and in files: taken back when asked."""

from __future__ import annotations

import operator
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any

from . import _library
from ._errors import InvalidArgument, OutOfMemory
from ._guard import looking_again
from ._sequence import Target, target

if TYPE_CHECKING:
    from llama_cpp import Llama


class Archive:
    """compact(..., archive=archive) puts into it what the fold replaces, byte for byte; unfold(..., archive) takes it
    back. At most budget_bytes: the oldest folds go first, and one larger than all of it is not kept. A fold is found by
    the cells that it made, so one archive may serve many sequences, and never gives one what another had. By one thread
    at a time."""

    def __init__(self, budget_bytes: int) -> None:
        try:
            budget_bytes = operator.index(budget_bytes)
        except TypeError:
            raise InvalidArgument(f"budget_bytes is {budget_bytes!r}; give a whole number") from None
        if not 0 <= budget_bytes <= sys.maxsize:
            raise InvalidArgument(f"budget_bytes is {budget_bytes}; give 0 to {sys.maxsize}")
        library = _library.load()
        self._handle: int | None = library.kvfold_archive_init(budget_bytes)
        if not self._handle:
            raise OutOfMemory(library.kvfold_last_error().decode())
        self._end = weakref.finalize(self, library.kvfold_archive_free, self._handle)

    @property
    def handle(self) -> int:
        if not self._handle:
            raise InvalidArgument("this archive is closed")
        return self._handle

    @property
    def bytes(self) -> int:
        """What it holds now."""
        return _library.load().kvfold_archive_bytes(self.handle)

    def save(self, llm: Llama | None, path: str | os.PathLike[str], *, ctx: Any = None, seq_id: int = 0) -> None:
        """Writes what it has of the sequence's folds, to go with the slot file that save() writes."""
        self._call("kvfold_archive_save", target(llm, ctx, seq_id, None), path)

    def load(self, llm: Llama | None, path: str | os.PathLike[str], *, ctx: Any = None, seq_id: int = 0) -> None:
        """Reads such a file behind the load() of its slot file; another sequence's is refused."""
        self._call("kvfold_archive_load", target(llm, ctx, seq_id, None), path)

    def _call(self, name: str, to: Target, path: str | os.PathLike[str]) -> None:
        _library.call(name, self.handle, to.ctx, to.seq_id, os.fsencode(path))

    def close(self) -> None:
        """Frees what it holds."""
        self._handle = None
        self._end()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def unfold(llm: Llama | None, archive: Archive, *, ctx: Any = None, seq_id: int = 0) -> None:
    """Takes back the newest folds, as many as the archive has and as have room; the cells of what came behind them stay.

    Raises NotFound when the archive does not hold what was folded, InvalidArgument when nothing is folded or there is no
    room; the sequence is then what it was."""
    to = target(llm, ctx, seq_id, None)
    with looking_again(to.llm):
        _library.call("kvfold_sequence_unfold", to.ctx, to.seq_id, archive.handle)
