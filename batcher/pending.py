"""The queue as plain data. No lock, no clock, no I/O: the collector brings those."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from batcher.request import Request


class Pending:
    """Requests that wait, oldest first. Every operation is O(1)."""

    def __init__(self) -> None:
        # An OrderedDict and not a dict: taking the first of a dict that is emptied from the
        # front walks over the holes it left.
        self._requests: OrderedDict[Request, None] = OrderedDict()
        self.tokens = 0  # unpadded, over all that wait

    def add(self, request: Request) -> None:
        self._requests[request] = None
        self.tokens += request.cost

    def remove(self, request: Request) -> None:
        del self._requests[request]
        self.tokens -= request.cost

    def clear(self) -> list[Request]:
        """Empties the queue and returns what was in it."""
        removed = list(self._requests)
        self._requests.clear()
        self.tokens = 0
        return removed

    @property
    def oldest(self) -> Request:
        return next(iter(self._requests))

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __repr__(self) -> str:
        return f"<Pending {len(self)} requests, {self.tokens} tokens>"
