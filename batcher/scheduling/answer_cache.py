"""AnswerCache: finished results by the key of their input, within a bound on memory. Pure: no lock,
no clock."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from batcher.plain_data import is_array

_ENTRY = 224  # bytes of an entry beside its key and value, as measured
_ARRAY, _AXIS = 96, 16  # bytes of an array beside its numbers
_PLAIN = (str, bytes, int, float, complex, bool)


class AnswerCache:
    """Keeps the most recently used answers. O(1), but for the copy of an array.

    Only values that nobody can change are kept: numbers, texts, bytes, and read-only copies of
    arrays. (A view of a row would keep its whole batch in memory.)
    """

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; 0 keeps nothing."""
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()  # longest unused first
        self.bytes = 0  # of all that is kept; never above the limit

    def get(self, key: Hashable) -> Any:
        """None: not here. An array is shared and read-only: copy it to change it."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept[0]

    def put(self, key: Hashable, value: Any) -> None:
        """Replaces the answer of this key. A value that is larger than the limit, or that its
        receiver could change, is not kept."""
        self._drop(key)
        size = _size_of(value)
        if size is None:
            return
        size += _size_of_key(key) + _ENTRY
        if size > self._limit:
            return
        while self.bytes + size > self._limit:
            self._drop(next(iter(self._kept)))
        self._kept[key] = (_frozen(value), size)
        self.bytes += size

    def _drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept[1]

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<AnswerCache {len(self)} in {self.bytes} of {self._limit} bytes>"


def _size_of(value: Any) -> int | None:
    """None: it is not kept."""
    if is_array(value):
        # The objects in it would not be counted, and they could be changed.
        if value.dtype.hasobject:
            return None
        return value.nbytes + _ARRAY + _AXIS * value.ndim
    return sys.getsizeof(value) if type(value) in _PLAIN else None


def _size_of_key(key: Hashable) -> int:
    parts = key if isinstance(key, tuple) else ()
    return sys.getsizeof(key) + sum(_size_of_key(part) for part in parts)


def _frozen(value: Any) -> Any:
    if not is_array(value):
        return value
    own = value.copy()
    own.flags.writeable = False
    return own
