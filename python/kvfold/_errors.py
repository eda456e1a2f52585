"""What kvfold raises: one class for each error code of kvfold.h."""

from __future__ import annotations


class Error(RuntimeError):
    """The message says on one line what was wrong and what to do. code: of kvfold.h; 0 where no call of it failed."""

    code = 0


class InvalidArgument(Error, ValueError):
    """A request that makes no sense."""

    code = 1


class Unsupported(Error):
    """The model, its cache or the method cannot do this."""

    code = 2


class FileError(Error, OSError):
    """The operating system refused a file."""

    code = 3


class Corrupt(Error):
    """Bytes that are not what they claim to be."""

    code = 4


class Cancelled(Error):
    """The progress callable returned False. Nothing has changed."""

    code = 5


class LlamaError(Error):
    """A call into llama.cpp failed."""

    code = 6


class Numeric(Error, ArithmeticError):
    """NaN, infinity, or values too large for the cache's type."""

    code = 7


class Internal(Error):
    """A bug in kvfold."""

    code = 8


class NotFound(Error):
    """What was named does not exist."""

    code = 9


class Busy(Error):
    """Something else is at work on it."""

    code = 10


class Lost(Error):
    """llama.cpp refused the new cells and the old ones: evaluate the tokens again."""

    code = 11


class OutOfMemory(Error, MemoryError):
    """No memory left."""

    code = 12


BY_CODE = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        Unsupported,
        FileError,
        Corrupt,
        Cancelled,
        LlamaError,
        Numeric,
        Internal,
        NotFound,
        Busy,
        Lost,
        OutOfMemory,
    )
}


def error_of(code: int, message: str) -> Error:
    """A newer library may return codes that are not listed here."""
    error = BY_CODE.get(code, Error)(message)
    error.code = code
    return error
