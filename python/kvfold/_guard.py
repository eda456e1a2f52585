"""Keeps a llama_cpp.Llama from going on with a torn fold.

All folded cells stand at one position. Llama.generate() cuts the cache where a prompt leaves it. A cut in front of that
position would take the whole fold and leave nothing of what stood there. A fold also leaves no more of a sliding window
than the model looks back on, and a Llama, which keeps windows whole, would go on without the rest. The guard takes the
fold back where it has an archive and the model has neither windows nor recurrent layers, and refuses such cuts
elsewhere; Llama then reads the prompt from its beginning, as it does with recurrent models.
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from typing import TYPE_CHECKING, Any, Iterator

from . import _library
from ._errors import Error, Lost
from ._sequence import pointer

if TYPE_CHECKING:
    from ._archive import Archive


def inspect(ctx: int, seq_id: int = 0) -> _library.SequenceInfo:
    info = _library.SequenceInfo(struct_size=ctypes.sizeof(_library.SequenceInfo))
    _library.call("kvfold_sequence_inspect", ctx, seq_id, ctypes.byref(info))
    return info


LEAST_TAKEN_BACK = 32  # tokens; fewer are read anew sooner than cells are put back for them


def saved(ctx: Any) -> Any:
    """The state of sequence 0; None: llama.cpp gives none."""
    import llama_cpp  # it is there where a Llama is, and the package is imported faster without it

    state = (ctypes.c_uint8 * llama_cpp.llama_state_seq_get_size(ctx, 0))()
    return state if llama_cpp.llama_state_seq_get_data(ctx, state, len(state), 0) == len(state) else None


def put_back(inner: Any, state: Any) -> None:
    import llama_cpp

    type(inner).kv_cache_seq_rm(inner, 0, -1, -1)  # what a state has no cells of would stay
    if llama_cpp.llama_state_seq_set_data(inner.ctx, state, len(state), 0) != len(state):
        raise Lost("llama.cpp did not take its own state back: the sequence is empty, read it again")


class Guard:
    """Stands in for kv_cache_seq_rm and load_state of one Llama, and knows what is folded of it."""

    def __init__(self, llm: Any) -> None:
        # No strong references: a Llama frees its model when its last user drops it.
        self._llm: Any = weakref.ref(llm)
        self._inner: Any = weakref.ref(llm._ctx)
        self.archive: Archive | None = None  # of what this Llama folds by itself
        self.folded_cells = self.folded_end = 0
        self.look()
        llm._ctx.kv_cache_seq_rm = self.remove
        llm.load_state = self.load_state

    def look(self) -> None:
        """Reads what the cache holds: after a fold, or when a state came from somewhere else."""
        self.folded_cells = self.folded_end = 0
        if self._llm().n_tokens > 0:
            info = inspect(pointer(self._inner().ctx))
            self.folded_cells, self.folded_end = info.folded_cells, info.folded_end

    def cells(self) -> int:
        """In use by the Llama's tokens, counted without asking llama.cpp."""
        tokens = self._llm().n_tokens
        return tokens if tokens < self.folded_end else self.folded_cells + tokens - self.folded_end

    def remove(self, seq_id: int, p0: int, p1: int) -> bool:
        if not self.has_window(p0):
            return False
        if 0 < p0 < self.folded_end:
            return p1 < 0 and seq_id <= 0 and self._take_back(p0)
        inner = self._inner()
        done = type(inner).kv_cache_seq_rm(inner, seq_id, p0, p1)
        if p0 <= 0 and p1 < 0 and done:
            self.folded_cells = self.folded_end = 0
        return done

    def _take_back(self, end: int) -> bool:
        """Cuts amid a fold, whose cells come back. Where it fails, the sequence is as it was."""
        inner = self._inner()
        before = saved(inner.ctx) if self.archive is not None and end >= LEAST_TAKEN_BACK else None
        if before is None:
            return False
        done = False
        try:
            done = self._cut_and_unfold(end)
        except Error:
            pass
        finally:  # Ctrl-C too
            if not done:
                put_back(inner, before)
            self.look()
        return done

    def _cut_and_unfold(self, end: int) -> bool:
        inner = self._inner()
        while end < self.folded_end:
            # The caller cuts off what stands behind the fold, and the cells of the fold need its room.
            if not type(inner).kv_cache_seq_rm(inner, 0, self.folded_end, -1):
                return False
            _library.call("kvfold_sequence_unfold", pointer(inner.ctx), 0, self.archive.handle)
            self.look()
        return type(inner).kv_cache_seq_rm(inner, 0, end, -1)

    def has_window(self, end: int) -> bool:
        """Whether all that the model looks back on from there is in the cache, in its layers with sliding windows."""
        import llama_cpp

        inner, llm = self._inner(), self._llm()
        window = llama_cpp.llama_model_n_swa(llm._model.model)
        if window <= 0 or not 0 < end < llm.n_tokens:
            return True
        first = llama_cpp.llama_memory_seq_pos_min(llama_cpp.llama_get_memory(inner.ctx), 0)
        return first <= max(0, end - window + 1)

    def load_state(self, state: Any) -> None:
        llm, before = self._llm(), self._llm().input_ids
        type(llm).load_state(llm, state)
        if len(llm.input_ids) < len(before):  # the state is older than attach()
            before[: len(llm.input_ids)] = llm.input_ids
            llm.input_ids = before
        self.look()


def guard(llm: Any) -> Guard:
    """The Llama's, made at the first fold."""
    stand_in = llm._ctx.__dict__.get("kv_cache_seq_rm")
    return stand_in.__self__ if stand_in else Guard(llm)


@contextlib.contextmanager
def looking_again(llm: Any) -> Iterator[None]:
    """Around a call that changes the cells of a Llama, if one was given. An Error leaves them as they were; Ctrl-C may
    come when they have changed."""
    try:
        yield
    except Error:
        raise
    except BaseException:
        if llm is not None:
            guard(llm).look()
        raise
    if llm is not None:
        guard(llm).look()
