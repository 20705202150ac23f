"""Stand-ins for time, models and callers. Nothing in here sleeps; every wait ends loudly."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from batcher.collector import Collector
from batcher.request import Batch, BatchReport, CloseReason, Outcome, Request
from batcher.scheduling.pending import Pending

PATIENCE = 30.0  # seconds; a wait that takes this long has failed


class Waiter(Protocol):
    """A fake clock."""

    def now(self) -> float: ...

    def wait(self, condition: threading.Condition, until: float | None) -> None: ...


class FakeCondition(threading.Condition):
    """Its waits end when it is notified, or the fake clock says so."""

    def __init__(self, clock: Waiter, lock: threading.Lock) -> None:
        super().__init__(lock)
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.wait(self, None if timeout is None else self._clock.now() + timeout)
        return True

    def wait_to_be_notified(self) -> bool:
        return super().wait(PATIENCE)


class FakeClock:
    """A clock for real threads that only `advance` moves."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._changed = threading.Condition()
        # Whoever is in wait: its condition and its deadline.
        self._blocked: dict[object, tuple[threading.Condition, float | None]] = {}

    def now(self) -> float:
        with self._changed:
            return self._now

    def condition(self, lock: threading.Lock) -> FakeCondition:
        return FakeCondition(self, lock)

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        me = object()
        with self._changed:
            if until is not None and until <= self._now:
                return
            self._blocked[me] = (condition, until)
            self._changed.notify_all()
        try:
            assert isinstance(condition, FakeCondition)
            if not condition.wait_to_be_notified():
                raise AssertionError(f"nothing ended a wait until {until} at {self.now()}")
        finally:
            with self._changed:
                del self._blocked[me]

    def advance(self, seconds: float) -> None:
        """Moves time and wakes those whose deadline has come."""
        with self._changed:
            self._now += seconds
            due = [
                condition
                for condition, until in self._blocked.values()
                if until is not None and until <= self._now
            ]
        for condition in due:
            with condition:  # so its waiter, which held the lock when it registered, is in wait
                condition.notify_all()

    def until_blocked(self, until: float | None, count: int = 1) -> None:
        """Waits for `count` threads to be in wait with exactly this deadline."""
        with self._changed:
            reached = self._changed.wait_for(
                lambda: sum(each == until for _, each in self._blocked.values()) >= count, PATIENCE
            )
            deadlines = [each for _, each in self._blocked.values()]
        assert reached, f"{count} waits until {until} were expected; there are {deadlines}"


class OutOfEvents(Exception):
    """A wait that nothing scheduled would ever end, or not before the horizon."""


class VirtualClock:
    """A clock for one thread: waiting runs what was scheduled, in order of time.

    Everything at one instant has happened before a wait returns. `horizon` is as far as time goes:
    a wait beyond it leaves the clock there and raises OutOfEvents.
    """

    def __init__(self, now: float = 0.0, horizon: float = float("inf")) -> None:
        self._now = now
        self.horizon = horizon
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def condition(self, lock: threading.Lock) -> FakeCondition:
        return FakeCondition(self, lock)

    def at(self, time: float, event: Callable[[], None]) -> None:
        assert time >= self._now, "an event in the past"
        heapq.heappush(self._events, (time, next(self._order), event))

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        condition.release()
        try:
            self.step(float("inf") if until is None else until)
        finally:
            condition.acquire()

    def step(self, until: float = float("inf")) -> None:
        """On to the next instant at which something happens, or to `until`."""
        instant = min(until, self._events[0][0] if self._events else until)
        if instant > self.horizon or instant == float("inf"):
            self._now = self.horizon if self.horizon < float("inf") else self._now
            raise OutOfEvents
        self._now = instant
        while self._events and self._events[0][0] <= instant:
            heapq.heappop(self._events)[2]()


class RecordingSink:
    """Keeps every outcome it was ever given, with the request it was for."""

    def __init__(self) -> None:
        self.deliveries: list[list[tuple[Request, Outcome]]] = []
        self._changed = threading.Condition()

    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        with self._changed:
            self.deliveries.append(list(settled))
            self._changed.notify_all()

    @property
    def outcomes(self) -> list[tuple[Request, Outcome]]:
        return list(itertools.chain.from_iterable(self.deliveries))

    def outcomes_of(self, request: Request) -> list[Outcome]:
        return [outcome for whose, outcome in self.outcomes if whose is request]

    def until_settled(self, count: int) -> None:
        with self._changed:
            reached = self._changed.wait_for(lambda: len(self.outcomes) >= count, PATIENCE)
        assert reached, f"{count} outcomes were expected; there are {len(self.outcomes)}"


class Echo:
    """A runner that answers each payload with itself."""

    def warm_up(self) -> Mapping[str, object]:
        return {"model": "echo"}

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return list(payloads)

    def close(self) -> None: ...


class GatedRunner(Echo):
    """An echo that stops at a gate in each run: `started.wait()` sees it come, `release()` lets go.

    It is its own factory: `Engine(GatedRunner(), isolation="thread")`.
    """

    def __init__(self) -> None:
        self.started = Signal("no run began")
        self.batches: list[list[Any]] = []  # as they were run
        self.closed = 0
        self._gate = Signal("nobody released the run")

    def __call__(self) -> GatedRunner:
        return self

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(payloads))
        self.started.give()
        self._gate.wait()
        return super().run(payloads)

    def close(self) -> None:
        self.closed += 1

    def release(self, runs: int = 1) -> None:
        self._gate.give(runs)


class Signal:
    """Each wait takes one give, in whichever order they come."""

    def __init__(self, missed: str) -> None:
        self._missed = missed
        self._given = threading.Semaphore(0)

    def give(self, times: int = 1) -> None:
        self._given.release(times)

    def wait(self) -> None:
        assert self._given.acquire(timeout=PATIENCE), self._missed

    async def wait_async(self) -> None:
        await asyncio.to_thread(self.wait)


def run_async(main: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run with a deadline."""
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


def request(
    sink: RecordingSink | None = None,
    *,
    payload: Any = None,
    cost: int = 1,
    arrival: float = 0.0,
    deadline: float = float("inf"),
    reply_to: object = None,
    priority: int = 3,
    caller: str | None = None,
    key: Hashable | None = None,
) -> Request:
    to = sink or RecordingSink()
    return Request(payload, cost, arrival, deadline, to, reply_to, priority, caller, key)


def queue(*requests: Request) -> Pending:
    pending = Pending()
    for each in requests:
        pending.add(each)
    return pending


def of_costs(*costs: int) -> Pending:
    return queue(*(request(cost=cost) for cost in costs))


def payloads_of(batch: Batch) -> list[Any]:
    return [request.payload for request in batch.requests]


def report(
    *,
    size: int = 1,
    tokens: int = 1,
    useful_tokens: int = 1,
    reason: CloseReason = "idle",
    predicted: float = 0.0,
    inference: float = 0.0,
) -> BatchReport:
    return BatchReport(
        replica=0,
        size=size,
        requests=size,
        tokens=tokens,
        useful_tokens=useful_tokens,
        padding_ratio=1.0 - useful_tokens / tokens,
        reason=reason,
        closed=0.0,
        oldest_wait=0.0,
        predicted=predicted,
        inference=inference,
    )


def join(thread: threading.Thread) -> None:
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"{thread.name} did not end"


def until(collector: Collector, reached: Callable[[Collector], object]) -> None:
    """Waits for a change of phase or of a replica.

    Not while others submit: a submission wakes one thread, which must not be this one.
    """
    with (wakeup := collector._monitor.wakeups[0]):
        assert wakeup.wait_for(lambda: reached(collector), PATIENCE), repr(collector)


class LogWatch(logging.Handler):
    """Lets a test wait for a line of a worker's output."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []  # logger, text
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.lines.append((record.name, record.getMessage()))
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self._changed:
            seen = self._changed.wait_for(
                lambda: any(text == line for _, line in self.lines), PATIENCE
            )
        assert seen, f"{text!r} is not among {self.lines}"


def children() -> set[int]:
    """Process ids of this process's children, zombies among them."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found
