"""Answers: finished results by the key of their input, within a bound on memory. Pure data: no
lock and no clock, the collector brings the one and nothing needs the other.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from batcher.scheduling.arrays import is_array

_ENTRY = 224  # bytes; what one takes beside its key and value, as measured
_ARRAY, _AXIS = 96, 16  # bytes; of an array beside its numbers
_PLAIN = (str, bytes, int, float, complex, bool)


class Answers:
    """Keeps what was asked for most recently. All is O(1), but for the copy of an array.

    Only values that nobody can change are kept: numbers, texts, bytes, and arrays, of which it
    keeps a copy of its own, to be read only. A row would hold its whole batch in memory.
    """

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; 0 keeps nothing."""
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()  # longest unused first
        self.bytes = 0  # of all that is kept; never above the limit

    def get(self, key: Hashable) -> Any:
        """None: not here. An array is for all who ask: whoever wants to change it copies it."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept[0]

    def put(self, key: Hashable, value: Any) -> None:
        """In place of what this key had. What is larger than the limit, or could be changed by
        whoever gets it, is not kept."""
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
        return f"<Answers {len(self)} in {self.bytes} of {self._limit} bytes>"


def _size_of(value: Any) -> int | None:
    """None: not to be kept."""
    if is_array(value):
        # Less than all of an array of objects would be counted, and they could be changed.
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
