"""Which payloads are the same input. Two payloads are equal to the last bit, or not known to be
equal: there is no "nearly"."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeGuard

from batcher.request import Payload

if TYPE_CHECKING:
    from numpy.typing import NDArray


def dedup_key(payload: Payload) -> Hashable | None:
    """The same for payloads that are equal to the last bit. None: this payload is never shared.

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
