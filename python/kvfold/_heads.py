"""Attention matching for one head on arrays: for caches that are not llama.cpp's. Loads no llama.cpp."""

from __future__ import annotations

import array
import ctypes
import functools
import importlib.util
import itertools
from dataclasses import dataclass
from typing import Any, Sequence

from ._errors import InvalidArgument
from ._library import library_path, raise_error

FLOATS, CELLS = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_uint32)


class CHead(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("keys", FLOATS),
        ("values", FLOATS),
        ("queries", FLOATS),
        ("n_cells", ctypes.c_size_t),
        ("key_width", ctypes.c_size_t),
        ("value_width", ctypes.c_size_t),
        ("n_queries", ctypes.c_size_t),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("method", ctypes.c_char_p),
        ("pinned", CELLS),
        ("n_pinned", ctypes.c_size_t),
    ]


class CResult(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("cells", CELLS),
        ("keys", FLOATS),
        ("values", FLOATS),
        ("absorb_residual", ctypes.c_double),
        ("output_error", ctypes.c_double),
        ("mass_error", ctypes.c_double),
    ]


@dataclass(frozen=True)
class Head:
    """cells[i] is where row i came from, rising. keys: [kept, d] and values: [kept, dv] are memoryviews of f32, which
    numpy.asarray() and torch.frombuffer() take as they are. The errors are over the queries, as in Report."""

    cells: list[int]
    keys: memoryview
    values: memoryview
    absorb_residual: float
    output_error: float
    mass_error: float


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """$KVFOLD_HEAD_LIBRARY, else the one in this package."""
    loaded = ctypes.CDLL(str(library_path("KVFOLD_HEAD_LIBRARY", "libkvfold-head")))
    loaded.kvfold_last_error.restype = ctypes.c_char_p
    loaded.kvfold_head_solve.argtypes = [ctypes.POINTER(CHead), ctypes.c_size_t, ctypes.POINTER(CResult)]
    return loaded


class Rows:
    """A matrix of f32 as C sees it; kept alive by this."""

    def __init__(self, matrix: Any, name: str) -> None:
        view = self._view(matrix)
        shape = tuple(view.shape or ()) if view is not None else ()
        if view is None or len(shape) != 2 or 0 in shape:
            raise InvalidArgument(f"{name} is no matrix with rows and columns; give one of shape [rows, width]")
        self.rows, self.width = shape
        self._kept = view
        self.data = (ctypes.c_float * (self.rows * self.width)).from_buffer_copy(view.cast("B"))

    @staticmethod
    def _view(matrix: Any) -> Any:
        """A memoryview; None when it cannot be one."""
        try:
            view = memoryview(matrix)
            if view.format == "f" and view.c_contiguous:
                return view
        except TypeError:
            pass
        if importlib.util.find_spec("numpy"):
            import numpy

            return memoryview(numpy.ascontiguousarray(matrix, dtype=numpy.float32))  # type: ignore[arg-type]
        rows = [list(map(float, row)) for row in matrix]
        if not rows or len(set(map(len, rows))) != 1 or not rows[0]:
            return None
        return (
            memoryview(array.array("f", itertools.chain.from_iterable(rows)))
            .cast("B")
            .cast("f", [len(rows), len(rows[0])])
        )


def room(rows: int, width: int) -> tuple[Any, Any]:
    data = (ctypes.c_float * (rows * width))()
    return data, memoryview(data).cast("B").cast("f", [rows, width])


def solve_head(
    keys: Any,
    values: Any,
    queries: Any,
    scale: float,
    kept: int,
    *,
    method: str | None = None,
    softcap: float = 0.0,
    pinned: Sequence[int] = (),
) -> Head:
    """Kept rows of keys and values that answer the queries almost as all of them do.

    keys: [T, d], values: [T, dv], queries: [n, d]: numpy arrays, buffers of f32, or lists of lists. scale: of the
    logits, often d ** -0.5. method: select, solver, omp, refine or omp_refine; None = refine. softcap: 0 = off.
    pinned: cells that must be kept, rising. Releases the GIL; heads can be solved in threads."""
    k, v, q = Rows(keys, "keys"), Rows(values, "values"), Rows(queries, "queries")
    if v.rows != k.rows or q.width != k.width:
        raise InvalidArgument(
            f"{k.rows} keys of width {k.width}, {v.rows} values, queries of width {q.width}: no match"
        )
    if not 1 <= kept <= k.rows:
        raise InvalidArgument(f"cannot keep {kept} of {k.rows} cells")
    cells = (ctypes.c_uint32 * kept)()
    (new_keys, keys_view), (new_values, values_view) = room(kept, k.width), room(kept, v.width)
    head = CHead(
        ctypes.sizeof(CHead),
        k.data,
        v.data,
        q.data,
        k.rows,
        k.width,
        v.width,
        q.rows,
        scale,
        softcap,
        None if method is None else method.encode(),
        (ctypes.c_uint32 * len(pinned))(*pinned),
        len(pinned),
    )
    result = CResult(ctypes.sizeof(CResult), cells, new_keys, new_values)
    raise_error(library(), library().kvfold_head_solve(ctypes.byref(head), kept, ctypes.byref(result)))
    return Head(list(cells), keys_view, values_view, result.absorb_residual, result.output_error, result.mass_error)
