"""The service's own policy and queue in virtual time: a trace in, its batches out.

What the collector does with threads and a lock, done with a loop and a heap; on the same trace
both form the same batches, which a test holds them to.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from batcher import policy
from batcher.limits import Limits
from batcher.pending import Pending
from batcher.request import Outcome, Request

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Arrival:
    at: float
    cost: int = 1
    deadline: float = FOREVER


@dataclass(frozen=True, slots=True)
class SimulatedBatch:
    """`members` are places in the trace. Times are absolute, in seconds."""

    start: float
    finish: float
    replica: int
    reason: str
    members: tuple[int, ...]


class _Nowhere:
    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        """Nobody waits for a simulated answer."""


def simulate(
    arrivals: Iterable[Arrival],
    limits: Limits,
    service_time: Callable[[int, int], float],
    replicas: int = 1,
) -> list[SimulatedBatch]:
    """Runs the trace, which is in order of time, until every request is served or has expired.

    `service_time` gives seconds for (size, padded tokens). Requests whose deadline passes in the
    queue are in no batch. O(n log replicas).
    """
    trace = list(arrivals)
    pending = Pending()
    idle = list(range(replicas))  # lowest number first
    busy: list[tuple[float, int]] = []  # (finish, replica)
    batches: list[SimulatedBatch] = []
    upcoming = 0
    sink = _Nowhere()
    now = float("-inf")
    while True:
        due = FOREVER
        while idle and pending:
            due = policy.due(pending, limits, draining=False)
            if due > now:
                break
            fill = policy.fill(pending, limits, now, draining=False)
            for request in (*fill.expired, *fill.taken):
                pending.remove(request)
            if fill.taken:
                replica = heapq.heappop(idle)
                finish = now + service_time(len(fill.taken), fill.tokens)
                members = tuple(cast(int, request.ticket) for request in fill.taken)
                batches.append(SimulatedBatch(now, finish, replica, fill.reason, members))
                heapq.heappush(busy, (finish, replica))
            due = FOREVER
        arrives = trace[upcoming].at if upcoming < len(trace) else FOREVER
        now = min(due, arrives, busy[0][0] if busy else FOREVER)
        if now == FOREVER:
            return batches
        while busy and busy[0][0] <= now:
            heapq.heappush(idle, heapq.heappop(busy)[1])
        while upcoming < len(trace) and trace[upcoming].at <= now:
            arrival = trace[upcoming]
            pending.add(
                Request(arrival.at, arrival.cost, arrival.at, arrival.deadline, sink, upcoming)
            )
            upcoming += 1


def latencies(arrivals: Sequence[Arrival], batches: Iterable[SimulatedBatch]) -> list[float]:
    """Arrival to finish, in seconds, in the order of the batches."""
    return [batch.finish - arrivals[place].at for batch in batches for place in batch.members]
