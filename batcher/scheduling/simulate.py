"""The service's own schedule in virtual time: a trace in, its batches out.

It does with a loop and a heap what the collector does with threads and a lock. On the same trace
both form the same batches; a test holds them to it.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from batcher.limits import Limits
from batcher.request import Outcome, Request
from batcher.scheduling.schedule import Schedule

FOREVER = float("inf")
Point = tuple[int, int, float]
"""Size, padded tokens and seconds of a batch."""


@dataclass(frozen=True, slots=True)
class Arrival:
    at: float
    cost: int = 1
    deadline: float = FOREVER
    priority: int = 3
    caller: str | None = None
    key: Hashable | None = None  # equal for equal inputs


@dataclass(slots=True)
class SimulatedBatch:
    """`members` are places in the trace; of `size` rows, as equal inputs share one. Times are
    absolute, in seconds."""

    start: float
    finish: float
    replica: int
    reason: str
    members: list[int]
    size: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """Each place of the trace is in one of the three."""

    batches: list[SimulatedBatch]
    refused: list[int]  # at the door
    late: list[int]  # dropped before they ran


class _NullSink:
    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        """Drops them."""


def simulate(
    arrivals: Iterable[Arrival],
    limits: Limits,
    service_time: Callable[[int, int], float],
    replicas: int = 1,
    profile: Sequence[Point] = (),
    padding_free: bool = False,
) -> Simulation:
    """Runs the trace, which is in order of time, until each of it is served, refused or late.

    `service_time` gives seconds for (size, tokens as run: padded, unless `padding_free`). The
    scheduler knows of it what the `profile` says, and learns the rest. O(n log n).
    """
    schedule = Schedule(limits, replicas)
    for replica in schedule.replicas:
        replica.came_up(profile, padding_free)
    return _Simulator(list(arrivals), schedule, service_time).run()


class _Simulator:
    def __init__(
        self,
        trace: Sequence[Arrival],
        schedule: Schedule,
        service_time: Callable[[int, int], float],
    ) -> None:
        self._trace = trace
        self._service_time = service_time
        self._schedule = schedule
        self._idle = list(range(len(schedule.replicas)))  # lowest number first
        # When it ends, on which replica, the batch, its useful tokens and its seconds.
        self._busy: list[tuple[float, int, SimulatedBatch, int, float]] = []
        self._in_flight: dict[Hashable, SimulatedBatch] = {}
        self._result = Simulation([], [], [])
        self._sink = _NullSink()

    def run(self) -> Simulation:
        trace, pending, busy = self._trace, self._schedule.pending, self._busy
        upcoming, now = 0, -FOREVER
        while True:
            due = FOREVER
            while self._idle and pending.rows:
                due, replica = min(
                    (self._schedule.due(each, now, False), each) for each in self._idle
                )
                if due > now:
                    break
                self._cut(replica, now)
                due = FOREVER
            arrives = trace[upcoming].at if upcoming < len(trace) else FOREVER
            now = min(due, arrives, busy[0][0] if busy else FOREVER)
            if now == FOREVER:
                return self._result
            while upcoming < len(trace) and trace[upcoming].at <= now:
                self._arrive(upcoming, trace[upcoming])
                upcoming += 1
            while busy and busy[0][0] <= now:
                self._finish(*heapq.heappop(busy))

    def _arrive(self, place: int, arrival: Arrival) -> None:
        running = None if arrival.key is None else self._in_flight.get(arrival.key)
        if running is not None:
            running.members.append(place)
            self._schedule.coalesced(1, arrival.at)
            return
        request = Request(
            None,
            arrival.cost,
            arrival.at,
            arrival.deadline,
            self._sink,
            place,
            arrival.priority,
            arrival.caller,
            arrival.key,
        )
        if self._schedule.admit([request], arrival.at) is not None:
            self._result.refused.append(place)

    def _cut(self, replica: int, now: float) -> None:
        selection = self._schedule.cut(replica, now, draining=False)
        self._result.late.extend(cast(int, request.reply_to) for request in selection.late)
        if not selection.taken:
            return
        assert selection.reason is not None, "cut gives each batch its reason"
        self._idle.remove(replica)
        members = []
        for row, request in enumerate(selection.taken):
            members += [each.reply_to for each in (request, *selection.duplicates.get(row, ()))]
        seconds = self._service_time(len(selection.taken), selection.tokens)
        finish = now + seconds
        batch = SimulatedBatch(
            now,
            finish,
            replica,
            selection.reason,
            cast(list[int], members),
            len(selection.taken),
            selection.tokens,
        )
        for request in selection.taken:
            if request.key is not None:
                self._in_flight[request.key] = batch
        useful = sum(request.cost for request in selection.taken)
        self._result.batches.append(batch)
        heapq.heappush(self._busy, (finish, replica, batch, useful, seconds))

    def _finish(
        self, now: float, replica: int, batch: SimulatedBatch, useful: int, seconds: float
    ) -> None:
        for place in batch.members:
            self._in_flight.pop(self._trace[place].key, None)
        self._schedule.ended(
            replica,
            now,
            began=batch.start,
            size=batch.size,
            tokens=batch.tokens,
            useful_tokens=useful,
            seconds=seconds,
            released=len(batch.members),
        )
        insort(self._idle, replica)
