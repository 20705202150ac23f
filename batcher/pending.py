"""The queue as plain data. No lock, no clock, no I/O: the collector brings those."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence

from batcher.request import Request


class Pending:
    """Requests that wait, oldest first; what is put back is older than all the rest."""

    def __init__(self) -> None:
        # An OrderedDict and not a dict: taking the first of a dict that is emptied from the
        # front walks over the holes it left.
        self._requests: OrderedDict[Request, None] = OrderedDict()
        self.tokens = 0  # unpadded, over all that wait
        self._held: Counter[str] = Counter()  # requests by caller; nobody is in here with none

    def add(self, request: Request) -> None:
        self._requests[request] = None
        self.tokens += request.cost
        if request.caller is not None:
            self._held[request.caller] += 1

    def put_back(self, requests: Sequence[Request]) -> None:
        """To the front, in this order. O(len(requests))."""
        for request in reversed(requests):
            self.add(request)
            self._requests.move_to_end(request, last=False)

    def remove(self, request: Request) -> None:
        del self._requests[request]
        self.tokens -= request.cost
        if request.caller is not None:
            self._held[request.caller] -= 1
            if not self._held[request.caller]:
                del self._held[request.caller]

    def clear(self) -> list[Request]:
        """Empties the queue and returns what was in it."""
        removed = list(self._requests)
        self._requests.clear()
        self.tokens = 0
        self._held.clear()
        return removed

    def held_by(self, caller: str) -> int:
        """How many requests of this caller wait."""
        return self._held[caller]

    @property
    def oldest(self) -> Request:
        return next(iter(self._requests))

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __repr__(self) -> str:
        return f"<Pending {len(self)} requests, {self.tokens} tokens>"
