"""kvfold makes the KV cache of a running llama.cpp model several times smaller (arXiv 2602.16284)."""

from __future__ import annotations

from typing import Any

from ._compact import Method, Report, check, compact, load, methods, save
from ._errors import (
    Busy,
    Cancelled,
    Corrupt,
    Error,
    FileError,
    Internal,
    InvalidArgument,
    LlamaError,
    Lost,
    NotFound,
    Numeric,
    OutOfMemory,
    Unsupported,
)

__version__ = "0.1.0"
