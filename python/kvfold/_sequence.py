"""What a call is about: a sequence of a llama_context with its tokens, given as a llama_cpp.Llama or by pointers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence

from ._errors import InvalidArgument

if TYPE_CHECKING:
    from llama_cpp import Llama


@dataclass
class Target:
    ctx: int
    seq_id: int
    tokens: Any  # a ctypes array of int32, or None
    context_params: int | None  # address of the llama_context_params that the context was made with
    llm: Any = None  # the Llama, where one was given

    @property
    def n_tokens(self) -> int:
        return 0 if self.tokens is None else len(self.tokens)


def c_tokens(tokens: Any) -> Any:
    """From a list, a numpy array of any integer type, or any other sequence."""
    try:
        view = memoryview(tokens)
        if view.format == "i" and view.c_contiguous:
            return (
                (ctypes.c_int32 * len(view)).from_buffer_copy(view.cast("B")) if len(view) else (ctypes.c_int32 * 0)()
            )
    except TypeError:
        pass
    return (ctypes.c_int32 * len(tokens))(*map(int, tokens))


def pointer(ctx: Any) -> int:
    """From an int, a ctypes pointer or a c_void_p."""
    value = ctx if isinstance(ctx, int) else ctypes.cast(ctx, ctypes.c_void_p).value if ctx is not None else None
    if not value:
        raise InvalidArgument("the context is NULL: the model was closed, or never opened")
    return value


def of_llama(llm: Llama) -> Target:
    """What Llama has dropped from its list but not yet from the cache goes, as its own eval() does it."""
    inner = getattr(llm, "_ctx", None)
    if inner is None or not hasattr(llm, "input_ids"):
        raise InvalidArgument(f"{type(llm).__name__} is no llama_cpp.Llama; give ctx=, seq_id= and tokens= instead")
    ctx = pointer(inner.ctx)
    inner.kv_cache_seq_rm(-1, llm.n_tokens, -1)
    tokens = c_tokens(llm.input_ids[: llm.n_tokens])
    return Target(ctx, 0, tokens, ctypes.addressof(llm.context_params), llm)


def target(llm: Any, ctx: Any, seq_id: int, tokens: Sequence[int] | None) -> Target:
    if (llm is None) == (ctx is None):
        raise InvalidArgument("give a llama_cpp.Llama, or ctx= with its tokens=")
    if llm is not None:
        if tokens is not None or seq_id != 0:
            raise InvalidArgument("a Llama knows its tokens and has sequence 0 alone: give them with ctx= only")
        return of_llama(llm)
    return Target(pointer(ctx), seq_id, None if tokens is None else c_tokens(tokens), None)
