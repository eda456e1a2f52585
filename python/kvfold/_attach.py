"""A llama_cpp.Llama that folds by itself before it runs out of cells."""

from __future__ import annotations

import warnings
import weakref
from typing import TYPE_CHECKING, Any, Callable, Sequence

from ._compact import Progress, Report, check, compact_target
from ._errors import Cancelled, Error, InvalidArgument, Lost, Unsupported
from ._guard import guard
from ._policy import Fold, Policy, plan
from ._sequence import of_llama

if TYPE_CHECKING:
    from llama_cpp import Llama

    from ._archive import Archive

LARGEST_VIRTUAL = 1024
OTHERS = ("select", "keep_last")  # tried in their order when a method fails on a sequence


class Attached:
    """What attach() returns. cells: that the context has. folds: a Report of each fold."""

    def __init__(
        self,
        llm: Llama,
        *,
        virtual: int,
        policy: Policy,
        method: str | None,
        seed: int,
        threads: int,
        progress: Progress | None,
        on_fold: Callable[[Report], Any] | None,
        archive: Archive | None,
        solve_on: str,
    ) -> None:
        # No strong references: a Llama frees its model when its last user drops it.
        self._llm = weakref.ref(llm)
        self.cells: int = type(llm._ctx).n_ctx(llm._ctx)
        self.virtual_cells = self.cells * virtual
        self.folds: list[Report] = []
        self._policy, self._method, self._seed, self._threads = policy, method, seed, threads
        self._progress, self._on_fold = progress, on_fold
        self._archive, self._solve_on = archive, solve_on
        self._guard = guard(llm)
        self._guard.archive = archive
        self._answer = 0  # of the newest tokens, those that came one by one
        self._enlarge(llm)
        llm.eval = self._eval  # type: ignore[method-assign]

    def _enlarge(self, llm: Any) -> None:
        """Llama asks for its size in four places, and keeps a token and perhaps logits for each position."""
        import numpy

        def larger(array: Any) -> Any:
            grown = numpy.empty((self.virtual_cells, *array.shape[1:]), dtype=array.dtype)
            grown[: len(array)] = array
            return grown

        llm.input_ids = larger(llm.input_ids)
        if llm._logits_all:
            llm.scores = larger(llm.scores)
        llm._n_ctx = llm.context_params.n_ctx = self.virtual_cells
        llm._ctx.n_ctx = lambda: self.virtual_cells

    @property
    def used(self) -> int:
        """Cells in use."""
        return self._guard.cells()

    def detach(self) -> None:
        """The Llama is as it was; what is folded stays so, and it can go on as far as its cells reach."""
        llm: Any = self._llm()
        if llm is None or llm.__dict__.get("eval") != self._eval:
            return
        del llm.eval, llm._ctx.n_ctx
        self._guard.archive = None
        llm._n_ctx = llm.context_params.n_ctx = self.cells

    def _eval(self, tokens: Sequence[int]) -> None:
        llm: Any = self._llm()
        end = llm.n_tokens + len(tokens)
        if end > self.virtual_cells:
            raise InvalidArgument(f"{end} tokens do not fit into {self.virtual_cells}; attach with a larger virtual")
        llm._ctx.kv_cache_seq_rm(-1, llm.n_tokens, -1)  # as the real one does: the cells are counted behind it
        at = 0
        while at < len(tokens):
            room = self.cells - self.used
            if room <= 0:
                self._make_room(llm)
                continue
            part = tokens[at : at + room]
            type(llm).eval(llm, part)
            at += len(part)
        self._answer = self._answer + 1 if len(tokens) == 1 else 0

    def _make_room(self, llm: Any) -> None:
        used = self.used
        fold = plan(self._policy, self.cells, used, self._guard.folded_cells, min(self._answer, llm.n_tokens))
        if fold is None:
            raise InvalidArgument(
                f"nothing more of {used} cells can be folded; give the Llama a larger n_ctx, or attach with smaller "
                "keep_first and keep_last"
            )
        report = self._fold(llm, fold)
        self.folds.append(report)
        if self._on_fold:
            self._on_fold(report)

    def _fold(self, llm: Any, fold: Fold) -> Report:
        methods = [self._method, *OTHERS]
        for method, next_one in zip(methods, [*OTHERS, None]):
            try:
                return compact_target(
                    of_llama(llm),
                    ratio=fold.before / fold.after,
                    method=method,
                    keep_first=fold.keep_first,
                    keep_last=fold.keep_last,
                    seed=self._seed,
                    threads=self._threads,
                    progress=self._progress,
                    archive=self._archive,
                    solve_on=self._solve_on,
                )
            except (Cancelled, Lost):
                raise
            except Error as error:
                if next_one is None:
                    raise
                warnings.warn(f"kvfold: {error}; {next_one} is tried instead", RuntimeWarning, stacklevel=2)
        raise AssertionError("the loop returns or raises")


def attach(
    llm: Llama,
    virtual: int = 4,
    *,
    ratio: float | None = None,
    method: str | None = None,
    keep_first: int = 4,
    keep_last: int = -1,
    seed: int = 1,
    threads: int = 0,
    progress: Progress | None = None,
    on_fold: Callable[[Report], Any] | None = None,
    archive: Archive | None = None,
    solve_on: str = "auto",
) -> Attached:
    """Makes a Llama take virtual times as many tokens as its context has cells: when they are full, it folds what is
    old, chat completions included. Until detach(), n_ctx() is the larger number.

    ratio: cells before / cells after of what is folded; None = 2 x virtual. keep_first: first cells that are never
    folded; keep_last: newest cells that stay as they are, -1 = an eighth of the cells, at most 256. method, seed,
    threads, progress, solve_on: as in compact(). on_fold(report) is called after each fold. archive: gets what is
    folded, and stays open until detach(); folds are folded anew from it, and a prompt that leaves the text amid a fold
    gets its cells back instead of being read from its beginning (not with sliding windows or recurrent layers).

    Raises Unsupported when kvfold cannot compact this model."""
    if isinstance(llm, Attached) or "eval" in getattr(llm, "__dict__", {}):
        raise InvalidArgument("this Llama is attached already; call detach() first")
    if not 1 <= virtual <= LARGEST_VIRTUAL:
        raise InvalidArgument(f"virtual is {virtual}; give 1 to {LARGEST_VIRTUAL}")
    if llm.context_params.embeddings:
        raise Unsupported("this Llama computes embeddings: it keeps no context to fold")
    why_not = check(llm)
    if why_not:
        raise Unsupported(why_not)
    policy = Policy(2.0 * virtual if ratio is None else ratio, keep_first, keep_last)
    cells = type(llm._ctx).n_ctx(llm._ctx)
    if plan(policy, cells, cells, 0, 0) is None:
        raise InvalidArgument(
            f"nothing of {cells} cells could ever be folded with keep_first {keep_first} and ratio {policy.ratio:g}; "
            "give a smaller keep_first, and a ratio of 2 or more"
        )
    trained = llm._model.n_ctx_train()
    if 0 < trained < cells * virtual:
        warnings.warn(
            f"kvfold: the model was trained for {trained} positions, and {cells * virtual} are allowed; behind the "
            f"former it may write nonsense: virtual={max(1, trained // cells)} stays inside",
            RuntimeWarning,
            stacklevel=2,
        )
    return Attached(
        llm,
        virtual=virtual,
        policy=policy,
        method=method,
        seed=seed,
        threads=threads,
        progress=progress,
        on_fold=on_fold,
        archive=archive,
        solve_on=solve_on,
    )
