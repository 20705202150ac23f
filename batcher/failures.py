"""Failures of a model: what its exceptions and odd results mean for the batch."""

from __future__ import annotations

from typing import Any, cast

from batcher.errors import BatcherError, RunnerFailed


def explain(error: BaseException) -> str:
    """The type and the text of an exception, in one line."""
    try:
        text = in_one_line(str(error))
    except Exception:  # the __str__ of a user's exception may raise
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def reason_of(error: BaseException) -> str:
    """What a runner's exception says, in one line. A RunnerFailed says all by its text."""
    return in_one_line(str(error)) if isinstance(error, RunnerFailed) else explain(error)


def in_one_line(text: str) -> str:
    """White space of any kind is one blank."""
    return printable(" ".join(text.split()))


def printable(text: str, instead: str = " ") -> str:
    """Text of a model or a caller, fit for a log and an operator's terminal: no control characters
    are left in it."""
    return "".join(each if each.isprintable() else instead for each in text)


def as_outcome(result: Any) -> BatcherError | None:
    """The error that a result is, or None."""
    kind = type(result)  # isinstance would ask the result itself, which may raise
    if issubclass(kind, BatcherError):
        return cast(BatcherError, result)
    return RunnerFailed(explain(result)) if issubclass(kind, Exception) else None


def no_answer_within(seconds: float) -> str:
    """Why a worker is taken to hang, and what to change if it was only slow."""
    return (
        f"no answer within {seconds:.1f} s. If the model was only slow, raise the limit:"
        " hang_after of Limits, BATCHER_HANG_AFTER_MS of the service"
    )


# Texts of torch and the libraries under it: they have no exception types that could be named here.
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")
_DEVICE_LOST_PREFIXES = ("CUDA error", "HIP error")


def is_out_of_memory(error: Exception) -> bool:
    """Might a smaller batch succeed?"""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def is_device_lost(error: Exception) -> bool:
    """After such an error, every call of this process to the device fails."""
    return isinstance(error, RuntimeError) and str(error).startswith(_DEVICE_LOST_PREFIXES)
