"""Compact, save and load: the calls of kvfold.h."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

from . import _library
from ._errors import InvalidArgument, Unsupported
from ._guard import guard, looking_again
from ._sequence import Target, target

if TYPE_CHECKING:
    from llama_cpp import Llama

    from ._archive import Archive

STAGES = ("snapshot", "study", "draft", "solve", "swap")
Progress = Callable[[str, float], Any]


@dataclass(frozen=True)
class Report:
    """What a compaction did. Sizes are of the sequence's state; seconds are wall time. The three errors are means over
    the heads, and 0 for the baselines."""

    method: str
    cells_before: int
    cells_after: int
    bytes_before: int
    bytes_after: int
    study_tokens: int
    snapshot_s: float
    study_s: float
    solve_s: float
    swap_s: float
    absorb_residual: float
    output_error: float
    mass_error: float
    layers_solved: int
    layers_on_devices: int

    @property
    def ratio(self) -> float:
        return self.cells_before / self.cells_after


@dataclass(frozen=True)
class Method:
    name: str
    advice: str


def methods() -> list[Method]:
    """The default first."""
    library = _library.load()
    return [
        Method(library.kvfold_method_name(i).decode(), library.kvfold_method_advice(i).decode())
        for i in range(library.kvfold_method_count())
    ]


class Watched:
    """A progress callable as C sees it. What it raises cancels, and is raised again when the call has returned."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.raised: BaseException | None = None
        self.callback = _library.ProgressCallback(self._ask)

    def _ask(self, stage: int, done: float, _data: Any) -> bool:
        # Without a callable this is asked all the same: Ctrl-C is noticed in here.
        try:
            name = STAGES[stage] if 0 <= stage < len(STAGES) else str(stage)
            if self.raised is None and self._progress is not None and self._progress(name, done) is False:
                return False
            return self.raised is None  # Ctrl-C may have come meanwhile
        except BaseException as error:
            self.raised = error
            return False

    @contextlib.contextmanager
    def noting_ctrl_c(self) -> Iterator[None]:
        """Ctrl-C is noted and cancels, where it would raise KeyboardInterrupt: one that is raised as C enters a Python
        function, this one or llama-cpp-python's for its log, never comes out of it."""
        in_main = threading.current_thread() is threading.main_thread()  # only it may set handlers
        if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def note(_signal: int, _frame: Any) -> None:
            self.raised = self.raised or KeyboardInterrupt()

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def compact_target(
    to: Target,
    *,
    ratio: float,
    method: str | None,
    keep_first: int,
    keep_last: int,
    seed: int,
    threads: int,
    progress: Progress | None,
    archive: Archive | None = None,
    solve_on: str = "auto",
) -> Report:
    params, report = _library.CompactParams(), _library.CompactReport()
    _library.call("kvfold_compact_params_init", ctypes.byref(params), ctypes.sizeof(params))
    _library.call("kvfold_compact_report_init", ctypes.byref(report), ctypes.sizeof(report))
    watched = Watched(progress)
    params.method = None if method is None else method.encode()
    params.ratio, params.keep_first, params.keep_last = ratio, keep_first, keep_last
    params.seed, params.n_threads = seed, threads
    params.context_params = to.context_params
    params.progress = watched.callback
    params.solve_on = solve_on.encode()
    params.archive = None if archive is None else archive.handle
    try:
        with watched.noting_ctrl_c(), looking_again(to.llm):
            _library.call(
                "kvfold_sequence_compact",
                to.ctx,
                to.seq_id,
                to.tokens,
                to.n_tokens,
                ctypes.byref(params),
                ctypes.byref(report),
            )
    except Exception:
        if watched.raised is not None:
            raise watched.raised from None
        raise
    values = {field[0]: getattr(report, field[0]) for field in _library.CompactReport._fields_}
    del values["struct_size"]
    if watched.raised is not None:  # it came too late to cancel
        raise watched.raised
    return Report(**{**values, "method": values["method"].decode()})


def compact(
    llm: Llama | None = None,
    *,
    ctx: Any = None,
    seq_id: int = 0,
    tokens: Sequence[int] | None = None,
    ratio: float = 8.0,
    method: str | None = None,
    keep_first: int = 4,
    keep_last: int = -1,
    seed: int = 1,
    threads: int = 0,
    progress: Progress | None = None,
    archive: Archive | None = None,
    solve_on: str = "auto",
) -> Report:
    """Compacts what a llama_cpp.Llama has evaluated, in place; it goes on as if nothing had happened.

    Without a Llama: ctx is a llama_context pointer, and tokens[i] is the token at position i of sequence seq_id
    (-1 where none stands).

    ratio: cells before / cells after. method: a name of methods(); None = the default.
    keep_first, keep_last: first and newest cells that stay as they are; keep_last -1 = 32, or fewer when little is
    left.
    seed: the same seed gives the same cache. threads: 0 = as many as the context uses for batches.
    progress(stage, done): asked often, perhaps from another thread; False cancels, and so does what it raises.
    archive: gets what the fold replaces; what it has of earlier folds is folded anew, so that no cell is folded twice.
    solve_on: "auto": each layer on the device that holds its cache; "cpu"; "device": through ggml also where that is
    the processor.

    Raises an Error by kind; the sequence is then what it was, but after Lost.
    """
    to = target(llm, ctx, seq_id, tokens)
    return compact_target(
        to,
        ratio=ratio,
        method=method,
        keep_first=keep_first,
        keep_last=keep_last,
        seed=seed,
        threads=threads,
        progress=progress,
        archive=archive,
        solve_on=solve_on,
    )


def save(
    llm: Llama | None,
    path: str | os.PathLike[str],
    *,
    ctx: Any = None,
    seq_id: int = 0,
    tokens: Sequence[int] | None = None,
) -> None:
    """Writes a slot file, which load() and an unmodified llama-server restore. With ctx= and tokens=, llm is None."""
    to = target(llm, ctx, seq_id, tokens)
    _library.call("kvfold_slot_save", to.ctx, to.seq_id, os.fsencode(path), to.tokens, to.n_tokens)


def read_slot(ctx: int, seq_id: int, path: str | os.PathLike[str], room: int | None) -> list[int]:
    """room: the most tokens that the caller can take; None = any number."""
    name, count = os.fsencode(path), ctypes.c_size_t()
    try:
        _library.call("kvfold_slot_load", ctx, seq_id, name, None, 0, ctypes.byref(count))
    except InvalidArgument:
        if count.value == 0:
            raise
    if room is not None and count.value > room:
        raise InvalidArgument(
            f"{os.fspath(path)}: holds {count.value} tokens, and this Llama has room for {room}; give it a larger "
            "n_ctx, or call kvfold.attach(llm, virtual=...) first"
        )
    tokens = (ctypes.c_int32 * count.value)()
    _library.call("kvfold_slot_load", ctx, seq_id, name, tokens, len(tokens), ctypes.byref(count))
    return list(tokens)


def load(llm: Llama | None, path: str | os.PathLike[str], *, ctx: Any = None, seq_id: int = 0) -> list[int]:
    """Restores a slot file and returns its tokens. A Llama then has them as its own, so a prompt that begins with the
    same text is read from where it goes on. With ctx=, llm is None and the tokens are the caller's to keep."""
    to = target(llm, ctx, seq_id, None)
    if llm is None:
        return read_slot(to.ctx, seq_id, path, None)
    tokens = read_slot(to.ctx, 0, path, len(llm.input_ids))
    llm.input_ids[: len(tokens)] = tokens
    llm.n_tokens = len(tokens)
    llm._requires_eval = True
    guard(llm).look()
    return tokens


def check(llm: Llama | None = None, *, ctx: Any = None) -> str | None:
    """Why kvfold cannot compact this model; None when it can. Raises ImportError when llama.cpp cannot be reached."""
    to = target(llm, ctx, 0, None)
    try:
        _library.call("kvfold_context_check", to.ctx, to.context_params)
    except Unsupported as error:
        return str(error)
    return None
