"""Plain data: the values that every client of the engine takes and returns; and which are equal.

A service with one frontend reaches the engine within its process, one with several through a
socket. Both take the same values, and deliver them with the same type and value, or refuse them at
submit; a runner's result that is not plain data fails its own request. Plain data is

    None, bool, int, float, str, bytes; list, tuple and dict of plain data (a key may be any of it
    that hashes); numpy arrays and scalars of numbers and bools

of exactly these types, nested at most MAX_DEPTH deep. An instance of a subclass would arrive as
something else, so it is refused. The socket carries no pickle: a frontend need not be able to
import the module of a user's class, and bytes never run code.

`Engine.submit`, for Python code in the engine's own process, is not bound by this: it takes and
returns whatever the runner does (with workers in processes of their own: whatever pickles).
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final, TypeGuard

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DEPTH: Final = 128  # containers in containers; less than what Python's own stack allows
NUMBERS: Final = frozenset("biufc")  # kinds of dtype; no objects, texts, dates or records
ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes})

_RULE = (
    "only None, bool, int, float, str, bytes, numpy arrays and scalars of numbers, "
    f"and lists, tuples and dicts of these, at most {MAX_DEPTH} deep, can be submitted or returned"
)


def refusal(value: Any) -> str | None:
    """Why `value` is not plain data; None: it is. O(1) for an atom or an array."""
    if type(value) in ATOMS or (is_array(value) and value.dtype.kind in NUMBERS):
        return None  # nearly every one
    found = _first_refused(value, MAX_DEPTH)
    return None if found is None else describe_refused(found[0])


def describe_refused(value: Any) -> str:
    """`value` is what is not plain data, or a container that is nested too deep."""
    kind = type(value)
    if kind in (list, tuple, dict):
        return f"a {kind.__name__} is nested too deep: {_RULE}"
    if is_array(value):
        return f"an array of {value.dtype} is not plain data: {_RULE}"
    return f"a value of type {kind.__module__}.{kind.__qualname__} is not plain data: {_RULE}"


def is_numpy_scalar(value: Any) -> bool:
    """Of one of numpy's own types. Does not import numpy: with such a value, it is there."""
    return type(value).__module__ == "numpy" and isinstance(value, sys.modules["numpy"].generic)


def dedup_key(payload: Any) -> Hashable | None:
    """The same for payloads that are equal to the last bit; there is no "nearly". None: this one is
    never shared.

    Texts, bytes and arrays of numbers have a key, and dicts of such arrays by name. A type of the
    user's own has none, even one derived from these: it may define equality in its own way.
    """
    kind = type(payload)
    if kind is str or kind is bytes:
        return payload  # type: ignore[no-any-return]  # it is one of the two
    if is_array(payload) and payload.dtype.kind in "biufc":
        return (payload.dtype.str, payload.shape, payload.tobytes())
    if kind is dict and all(type(name) is str and is_array(payload[name]) for name in payload):
        keys = [dedup_key(array) for array in payload.values()]
        return None if None in keys or not keys else (*payload, *keys)
    return None


def is_array(value: Any) -> TypeGuard[NDArray[Any]]:
    """Is it a numpy array? Answered without importing numpy, which an engine may not need."""
    kind = type(value)
    return kind.__name__ == "ndarray" and kind.__module__ == "numpy"


def _first_refused(value: Any, depth: int) -> tuple[Any] | None:
    kind = type(value)
    if kind in ATOMS:
        return None
    if is_array(value) or is_numpy_scalar(value):
        return None if value.dtype.kind in NUMBERS else (value,)
    if depth and (kind is list or kind is tuple):
        return _first_of(value, depth - 1)
    if depth and kind is dict:
        return _first_of(value, depth - 1) or _first_of(value.values(), depth - 1)
    return (value,)


def _first_of(values: Any, depth: int) -> tuple[Any] | None:
    for value in values:
        if type(value) not in ATOMS and (found := _first_refused(value, depth)) is not None:
            return found
    return None
