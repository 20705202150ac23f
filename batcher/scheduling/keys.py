"""When are two payloads the same input? Exactly, or not at all: what is not known to be equal is
not."""

from __future__ import annotations

from collections.abc import Hashable

from batcher.request import Payload
from batcher.scheduling.arrays import is_array


def key_of(payload: Payload) -> Hashable | None:
    """The same for payloads that are equal to the last bit. None: nobody here can say.

    Texts, bytes and arrays of numbers have one; a type of the user's own, even one derived from
    these, does not, because its equality is its own affair.
    """
    kind = type(payload)
    if kind is str or kind is bytes:
        return payload  # type: ignore[no-any-return]  # it is one of the two
    if is_array(payload) and payload.dtype.kind in "biufc":
        return (payload.dtype.str, payload.shape, payload.tobytes())
    return None
