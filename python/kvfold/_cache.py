"""A prompt cache for llama_cpp.Llama that compacts what it keeps, so that the same bytes hold several times as much."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any, Sequence

from llama_cpp import Llama, LlamaState
from llama_cpp.llama_cache import BaseLlamaCache

from ._compact import compact
from ._errors import Error, InvalidArgument, Lost
from ._guard import guard


class Entry:
    def __init__(self, state: LlamaState, is_compact: bool) -> None:
        self.state, self.is_compact = state, is_compact

    @property
    def bytes(self) -> int:
        return self.state.llama_state_size + self.state.scores.nbytes + self.state.input_ids.nbytes


class FoldedCache(BaseLlamaCache):
    """llm.set_cache(kvfold.FoldedCache(llm, ratio=8, capacity_bytes=2 << 30))

    States stay whole while capacity_bytes has room for them. Then those that were used longest ago are compacted, and
    what still does not fit is dropped. compacted and dropped count them. Compaction takes about as long as reading the
    prompt did, and happens at the end of a completion.
    """

    def __init__(
        self, llm: Llama, *, ratio: float = 8.0, capacity_bytes: int = 2 << 30, method: str | None = None
    ) -> None:
        super().__init__(capacity_bytes)
        self._llm = weakref.ref(llm)
        self._ratio, self._method = ratio, method
        self._entries: OrderedDict[tuple[int, ...], Entry] = OrderedDict()  # the one used longest ago first
        self.compacted = self.dropped = 0
        guard(llm)  # also before the first fold: it reads what a state that comes back holds

    @property
    def cache_size(self) -> int:
        return sum(entry.bytes for entry in self._entries.values())

    @property
    def states(self) -> int:
        """How many are kept. Not len(): Llama takes an empty cache for none."""
        return len(self._entries)

    def _find_longest_prefix_key(self, key: tuple[int, ...]) -> tuple[int, ...] | None:
        def common(kept: tuple[int, ...]) -> int:
            return Llama.longest_token_prefix(kept, key)

        best = max(self._entries, key=common, default=None)
        return best if best is not None and common(best) > 0 else None

    def __contains__(self, key: Sequence[int]) -> bool:
        return self._find_longest_prefix_key(tuple(key)) is not None

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        found = self._find_longest_prefix_key(tuple(key))
        if found is None:
            raise KeyError("no state begins as these tokens do")
        self._entries.move_to_end(found)
        return self._entries[found].state

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        key = tuple(key)
        self._entries.pop(key, None)
        self._entries[key] = Entry(self._slim(value), is_compact=False)
        self._fit()

    def _slim(self, state: LlamaState) -> LlamaState:
        """Without the rows of logits that Llama never filled: they can be larger than the cells."""
        if not self._llama()._logits_all:
            state.scores = state.scores[:1] * 0  # one row stands for all when it is put back
        return state

    def _llama(self) -> Any:
        llm = self._llm()
        if llm is None:
            raise InvalidArgument("the Llama of this FoldedCache is gone; make one for each Llama")
        return llm

    def _fit(self) -> None:
        """The newest state is what the Llama holds now, and it goes on with that."""
        if self.cache_size <= self.capacity_bytes:
            return
        llm = self._llama()
        newest = llm.save_state()
        for key in [key for key, entry in self._entries.items() if not entry.is_compact]:
            if self.cache_size <= self.capacity_bytes:
                break
            self._compact(llm, key)
        llm.load_state(newest)
        while self.cache_size > self.capacity_bytes and self._entries:
            self._entries.popitem(last=False)
            self.dropped += 1

    def _compact(self, llm: Any, key: tuple[int, ...]) -> None:
        """One that cannot be compacted (too short, say) is not tried again."""
        entry = self._entries[key]
        entry.is_compact = True
        llm.load_state(entry.state)
        try:
            compact(llm, ratio=self._ratio, method=self._method)
        except Lost:
            raise
        except Error:
            return
        entry.state = self._slim(llm.save_state())
        self.compacted += 1
