"""The targets of `policy`: what its cost is measured of, each driven the same way by one thread."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from batcher.collector import Collector
from batcher.limits import Limits
from batcher.plain_data import dedup_key
from batcher.request import Batch, Request, State
from batcher.runner import RunnerInfo
from batcher.scheduling.schedule import Schedule
from loadtests.theory.length_split import Device

LIMIT = 32  # Of a batch.
DEVICE = Device(fixed=0.050, per_token=40e-6, limit=LIMIT)
# What a warm-up would have measured: size, padded tokens, seconds.
PROFILE = tuple(
    (size, size * longest, DEVICE.time(size, longest))
    for size in (1, 4, 16, 32)
    for longest in (8, 32, 128)
)


class NullSink:
    """A sink that hands on nothing."""

    def deliver(self, settled: Sequence[object]) -> None:
        pass


class Done(NamedTuple):
    """What a bare queue says of an answer."""

    value: object
    queue_wait: float
    size: int
    tokens: int
    useful_tokens: int


class VirtualClock:
    """Stands still while work is done; waiting takes no time at all."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def condition(self, lock: threading.Lock) -> threading.Condition:
        return _Jump(self, lock)


class _Jump(threading.Condition):
    """A wait moves the time."""

    def __init__(self, clock: VirtualClock, lock: threading.Lock) -> None:
        super().__init__(lock)
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "it would wait for ever: this is a bug"
        self._clock.time += max(0.0, timeout)
        return True


class CostTarget(Protocol):
    """What is measured."""

    clock: VirtualClock

    def submit(self, request: Request) -> None: ...

    def next_batch(self) -> Sequence[Request]: ...

    def settle(self, inference: float) -> None: ...


class Deciding:
    """The schedule alone: equal inputs, admission, the queue, when, what, and learning. No lock, no
    outcomes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.clock = VirtualClock()
        self._schedule = Schedule(Limits(max_batch_size=limit))
        self._schedule.replicas[0].came_up(PROFILE)
        self._began = 0.0
        self._taken: list[Request] = []
        self._tokens = 0

    def submit(self, request: Request) -> None:
        request.key = dedup_key(request.payload)
        now, one = self.clock.now(), (request,)
        assert self._schedule.admit(one, now) is None, "refused where there is room: a bug"

    def refuses(self, request: Request) -> bool:
        """Up to where it would be added."""
        request.key = dedup_key(request.payload)
        return self._schedule.refusal((request,), self.clock.now()) is not None

    def next_batch(self) -> Sequence[Request]:
        due = self._schedule.due(0, self.clock.now(), False)
        self.clock.time = self._began = max(self.clock.time, due)
        selection = self._schedule.cut(0, self._began, False)
        self._taken, self._tokens = selection.taken, selection.tokens
        return self._taken

    def settle(self, inference: float) -> None:
        self._schedule.ended(
            0,
            self.clock.now(),
            began=self._began,
            size=len(self._taken),
            tokens=self._tokens,
            useful_tokens=sum(request.cost for request in self._taken),
            seconds=inference,
            released=len(self._taken),
        )


class Whole:
    """The collector, with one replica that is up and has its profile."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.clock = VirtualClock()
        self._collector = Collector(Limits(max_batch_size=limit), self.clock)
        self._collector.replica_up(0, RunnerInfo(profile=PROFILE))
        self._batch: Batch | None = None

    def submit(self, request: Request) -> None:
        request.key = dedup_key(request.payload)
        self._collector.submit((request,))

    def next_batch(self) -> Sequence[Request]:
        self._batch = self._collector.next_batch(0)
        assert self._batch is not None, "no batch where a backlog waits: this is a bug"
        return self._batch.requests

    def settle(self, inference: float) -> None:
        assert self._batch is not None, "settled before it was cut: this is a bug"
        self._collector.settle(self._batch, self._batch.requests, inference)


class Bare:
    """A queue under a lock, in order of arrival: the least that any engine does."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.clock = VirtualClock()
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[Request] = deque()
        self._sink = NullSink()
        self._batch: list[Request] = []

    def submit(self, request: Request) -> None:
        with self._lock:
            self._waiting.append(request)

    def next_batch(self) -> Sequence[Request]:
        with self._lock:
            self._batch = [self._waiting.popleft() for _ in range(self._limit)]
            for request in self._batch:
                request.state = State.RUNNING
        return self._batch

    def settle(self, inference: float) -> None:
        tokens = self._limit * max(request.cost for request in self._batch)
        useful = sum(request.cost for request in self._batch)
        now = self.clock.now()
        settled = []
        with self._lock:
            for request in self._batch:
                request.state = State.DONE
                wait = now - request.arrival
                settled.append((request, Done(request, wait, self._limit, tokens, useful)))
        self._sink.deliver(settled)
