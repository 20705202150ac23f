"""The queue as plain data, in the order of service. Pure: no lock, no clock, no I/O.

The more urgent level comes first. Within a level callers take turns by tokens: each request gets
the place in virtual time at which a fair server would start it (start-time fair queueing, Goyal,
Vin and Cheng, SIGCOMM 1996), so that one caller's requests stay in the order of their arrival.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from operator import attrgetter

from batcher.request import CONTINUED, FIRST_BULK, LEVELS, Request

_order_key = attrgetter("order_key")
PUT_BACK = -1  # the level of requests that have been in a batch already: before all others


class _Flow:
    """What one caller has waiting at one level."""

    __slots__ = ("count", "finish")

    def __init__(self) -> None:
        self.count = 0
        self.finish = 0.0  # in virtual time: where its next request may start


class Pending:
    """Requests that wait. O(log n) each, and a shift of the list behind."""

    def __init__(self, shares: bool = True) -> None:
        """`shares`: equal requests are one row."""
        self._shares = shares
        self.line: list[Request] = []  # by order_key, which is the order of service
        # An OrderedDict and not a dict: taking the first of a dict that is emptied from the
        # front walks over the holes it left.
        self.by_age: OrderedDict[Request, None] = OrderedDict()  # oldest first
        self.held: dict[str, int] = {}  # requests by caller; never 0
        self._flows: dict[tuple[int, str | None], _Flow] = {}
        self._virtual = [0.0] * LEVELS  # the virtual time of each level
        self._added = 0
        self._put_back = 0
        # By lane, interactive and bulk: those with the same input, which are one row.
        self.equal: tuple[dict[Hashable, list[Request]], dict[Hashable, list[Request]]] = ({}, {})
        # Plain numbers and no properties: admission reads each of them for every request.
        self.rows = 0  # requests, equal ones counted once in each lane
        self.tokens = 0  # of all rows, unpadded
        self.bulk = 0  # requests in the lane for bulk
        self.bulk_tokens = 0  # of its rows
        self.retries = 0  # requests that were put back or continued: they come before all others

    def add(self, request: Request) -> None:
        level, caller = request.priority, request.caller
        if level == CONTINUED:
            self._add_first(request)
            return
        flow = self._flows.get((level, caller))
        if flow is None:
            flow = self._flows[level, caller] = _Flow()
        start = self._virtual[level]
        if flow.finish > start:
            start = flow.finish
        flow.finish = start + request.cost
        flow.count += 1
        self._added += 1
        request.order_key = (level, start, self._added)
        if not self.line or self.line[-1].order_key < request.order_key:
            self.line.append(request)
        else:
            insort(self.line, request, key=_order_key)
        self._enter(request)

    def _add_first(self, request: Request) -> None:
        """Before all others but those that were put back, and those added so before it."""
        self._added += 1
        request.order_key = (PUT_BACK, float(self._added), 0)
        insort(self.line, request, key=_order_key)
        self.retries += 1
        self._enter(request)

    def put_back(self, requests: Sequence[Request]) -> None:
        """To the front, in this order; they count as older than all the rest. O(queue)."""
        self._put_back -= len(requests)
        for place, request in enumerate(requests):
            request.order_key = (PUT_BACK, float(self._put_back + place), 0)
            self._enter(request)
        self.retries += len(requests)
        self.line[:0] = requests
        for request in reversed(requests):
            self.by_age.move_to_end(request, last=False)

    def remove(self, request: Request) -> None:
        self._leave(request)
        del self.line[bisect_left(self.line, request.order_key, key=_order_key)]

    def take(self, rows: Sequence[Request], others: Sequence[Request] = ()) -> None:
        """Removes them for service: virtual time goes on to the last of the rows. `others` share a
        row, and were not waited for. O(how far back the last of them is)."""
        for request in rows:
            level, start, _ = request.order_key
            if level != PUT_BACK and start > self._virtual[level]:
                self._virtual[level] = start
        requests = [*rows, *others] if others else rows
        for request in requests:
            self._leave(request)
        if self.line[: len(requests)] == requests:  # mostly they come first, as they stand
            del self.line[: len(requests)]
            return
        left, taken = len(requests), set(requests)
        kept, reached = [], 0
        while left:
            request = self.line[reached]
            reached += 1
            if request in taken:
                left -= 1
            else:
                kept.append(request)
        self.line[:reached] = kept

    def clear(self) -> list[Request]:
        """Empties the queue and returns what was in it, in the order of service."""
        removed, self.line = self.line, []
        for request in removed:
            self._leave(request)
        return removed

    def equal_to(self, request: Request) -> list[Request]:
        """Those that wait and have the same input, in order of arrival, with the request itself if
        it waits."""
        if request.key is None or not self._shares:
            return [request]
        interactive, bulk = self.equal
        return [*interactive.get(request.key, ()), *bulk.get(request.key, ())]

    def place_of(self, request: Request, tokens: int) -> int:
        """How many rows would be served before the last of its call, which has so many tokens in
        all, if it were added now. O(log n)."""
        waiting = len(self.line)
        if not waiting:
            return 0
        level = request.priority
        flow = self._flows.get((level, request.caller))
        start = self._virtual[level]
        if flow is not None and flow.finish > start:
            start = flow.finish
        order_key = (level, start + tokens - request.cost, self._added + 1)
        if self.line[-1].order_key < order_key:
            return self.rows
        # Equal ones are taken to be spread evenly over the line.
        return bisect_left(self.line, order_key, key=_order_key) * self.rows // waiting

    @property
    def oldest(self) -> Request:
        return next(iter(self.by_age))

    def __iter__(self) -> Iterator[Request]:
        """In the order of service."""
        return iter(self.line)

    def __len__(self) -> int:
        """Requests, each counted."""
        return len(self.line)

    def __repr__(self) -> str:
        return f"<Pending {len(self)} requests, {self.tokens} tokens>"

    def _enter(self, request: Request) -> None:
        self.by_age[request] = None
        caller = request.caller
        if caller is not None:
            self.held[caller] = self.held.get(caller, 0) + 1
        in_bulk = request.priority >= FIRST_BULK
        if in_bulk:
            self.bulk += 1
        key = request.key
        if key is not None and self._shares:
            equal = self.equal[in_bulk]
            alike = equal.get(key)
            if alike is not None:
                alike.append(request)
                return
            equal[key] = [request]
        self.rows += 1
        self.tokens += request.cost
        if in_bulk:
            self.bulk_tokens += request.cost

    def _leave(self, request: Request) -> None:
        del self.by_age[request]
        caller = request.caller
        if caller is not None:
            held = self.held[caller] - 1
            if held:
                self.held[caller] = held
            else:
                del self.held[caller]
        if request.order_key[0] == PUT_BACK:
            self.retries -= 1
        else:
            flow = self._flows[request.priority, caller]
            flow.count -= 1
            if not flow.count:  # a caller with nothing waiting has no debt either
                del self._flows[request.priority, caller]
        in_bulk = request.priority >= FIRST_BULK
        if in_bulk:
            self.bulk -= 1
        key = request.key
        if key is not None and self._shares:
            equal = self.equal[in_bulk]
            alike = equal[key]
            before = alike[0].cost  # a row costs what its first request does
            alike.remove(request)  # O(equal ones)
            if not alike:
                del equal[key]
                self.rows -= 1
            freed = before - (alike[0].cost if alike else 0)
        else:
            self.rows -= 1
            freed = request.cost
        self.tokens -= freed
        if in_bulk:
            self.bulk_tokens -= freed
