"""What does deciding cost? CPU time of the collector, in this process, with no model and no HTTP.

Requests are submitted one by one, batches are cut from a standing backlog and settled with results
that are there already. The policy's own part is what that takes beyond a bare queue of the same
requests under the same lock: admission, when a batch is due, what goes in it, and learning.
"""

import argparse
import gc
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from statistics import median
from typing import NamedTuple, Protocol

import numpy as np

from batcher.collector import Collector
from batcher.limits import Limits
from batcher.request import Batch, Request, State
from loadtests.checks.finding import Finding, Measured, spread
from loadtests.checks.spared import at_most
from loadtests.record import Record
from loadtests.target import count_between

TITLE = "CPU time of the scheduling policy, for each request"
MOST_US = 10.0
LIMIT = 32  # Of a batch.
BACKLOG = 256  # More than the policy looks at for one batch.
DEADLINE = 30.0
DEVICE_S = (0.050, 0.0, 40e-6)  # Fixed, for each request, for each padded token.
# What a warm-up would have measured: size, padded tokens, seconds.
PROFILE = [
    [size, size * longest, DEVICE_S[0] + DEVICE_S[2] * size * longest]
    for size in (1, 4, 16, 32)
    for longest in (8, 32, 128)
]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who sends what. `lengths` and `priorities` are drawn from evenly."""

    callers: int
    lengths: Sequence[int]
    priorities: Sequence[int]


TRAFFIC: Mapping[str, Traffic] = {
    "one caller, equal lengths": Traffic(1, (64,), (3,)),
    "64 callers, lengths 5 to 128": Traffic(64, range(5, 129), (3,)),
    "… in two lanes": Traffic(64, range(5, 129), (1, 6)),
}


class Nowhere:
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

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        assert until is not None, "it would wait for ever: this is a bug"
        self.time = max(self.time, until)


class Subject(Protocol):
    """What is measured."""

    clock: VirtualClock

    def submit(self, request: Request) -> None: ...

    def next_batch(self) -> Sequence[Request]: ...

    def settle(self, inference: float) -> None: ...


class Ours:
    """The collector, with one replica that is up and has its profile."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._collector = Collector(Limits(max_batch_size=LIMIT), self.clock)
        self._collector.replica_up(0, {"profile": PROFILE})
        self._batch: Batch | None = None

    def submit(self, request: Request) -> None:
        self._collector.submit((request,))

    def next_batch(self) -> Sequence[Request]:
        self._batch = self._collector.next_batch(0)
        assert self._batch is not None, "no batch where a backlog waits: this is a bug"
        return self._batch.requests

    def settle(self, inference: float) -> None:
        assert self._batch is not None, "settled before it was cut: this is a bug"
        self._batch.settle(self._batch.requests, inference)


class Bare:
    """A queue under a lock, in order of arrival: the least that any engine does."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._lock = threading.Lock()
        self._waiting: deque[Request] = deque()
        self._sink = Nowhere()
        self._batch: list[Request] = []

    def submit(self, request: Request) -> None:
        with self._lock:
            self._waiting.append(request)

    def next_batch(self) -> Sequence[Request]:
        with self._lock:
            self._batch = [self._waiting.popleft() for _ in range(LIMIT)]
            for request in self._batch:
                request.state = State.RUNNING
        return self._batch

    def settle(self, inference: float) -> None:
        tokens = LIMIT * max(request.cost for request in self._batch)
        useful = sum(request.cost for request in self._batch)
        now = self.clock.now()
        settled = []
        with self._lock:
            for request in self._batch:
                request.state = State.DONE
                wait = now - request.arrival
                settled.append((request, Done(request, wait, LIMIT, tokens, useful)))
        self._sink.deliver(settled)


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU time for each request."""

    submit: float
    next_batch: float
    settle: float

    @property
    def total(self) -> float:
        return self.submit + self.next_batch + self.settle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=count_between(1000, 10**6), default=50_000, help="a run")
    parser.add_argument("--repeats", type=count_between(1, 50), default=7)
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings, notes = [], []
    lines = ["traffic,subject,repeat,submit_us,next_batch_us,settle_us"]
    subjects: Mapping[str, Callable[[], Subject]] = {"bare": Bare, "ours": Ours}
    for what, traffic in TRAFFIC.items():
        costs: dict[str, list[Cost]] = defaultdict(list)
        for repeat in range(args.repeats):
            for name, subject in subjects.items():
                cost = spent(subject(), requests(traffic, args.seed + repeat), args.requests)
                costs[name].append(cost)
                lines.append(
                    f'"{what}",{name},{repeat},{cost.submit},{cost.next_batch},{cost.settle}'
                )
        ours, bare = (median(cost.total for cost in costs[name]) for name in ("ours", "bare"))
        print(f"{what}: {ours:.2f} us, of that a bare queue {bare:.2f}", flush=True)
        findings += [
            at_most(f"{what}: the policy's own part", ours - bare, MOST_US, "us"),
            Finding(f"{what}: submit, next_batch and settle", ours, "us"),
        ]
        notes += [
            f"- {what}, {name}: {spread([cost.total for cost in each])} us; submit "
            f"{median(c.submit for c in each):.2f}, next_batch "
            f"{median(c.next_batch for c in each):.2f}, settle "
            f"{median(c.settle for c in each):.2f}"
            for name, each in costs.items()
        ]
    record.text("cpu.csv", "\n".join(lines) + "\n")
    return Measured(
        findings,
        f"Batches of at most {LIMIT} from a backlog of {BACKLOG}; CPU time of this thread, for "
        "each request. Medians of interleaved repeats (lowest to highest):\n\n" + "\n".join(notes),
    )


def requests(traffic: Traffic, seed: int) -> Iterator[Callable[[float], Request]]:
    """For ever: each makes its request at a given time. No two payloads are alike."""
    rng = np.random.default_rng(seed)
    sink = Nowhere()

    def make(number: int, length: int, priority: int, caller: str) -> Callable[[float], Request]:
        ids = np.full(length, number, dtype=np.int32)
        return lambda now: Request(
            ids, length, now, now + DEADLINE, sink, None, priority, caller=caller
        )

    for number in count():
        length = int(traffic.lengths[int(rng.integers(len(traffic.lengths)))])
        priority = traffic.priorities[int(rng.integers(len(traffic.priorities)))]
        yield make(number, length, priority, f"caller {number % traffic.callers}")


def spent(subject: Subject, made: Iterator[Callable[[float], Request]], many: int) -> Cost:
    """CPU time of about so many requests, after the backlog stands and the first batches ran."""
    coming = list(islice(made, many + BACKLOG))
    for make in coming[:BACKLOG]:
        subject.submit(make(subject.clock.now()))
    submitting = cutting = settling = 0
    at, settled = BACKLOG, 0
    gc.collect()
    while at + LIMIT <= len(coming):
        began = time.thread_time_ns()
        batch = subject.next_batch()
        cut = time.thread_time_ns()
        size, longest = len(batch), max(request.cost for request in batch)
        inference = DEVICE_S[0] + DEVICE_S[2] * size * longest
        subject.clock.time += inference
        ran = time.thread_time_ns()
        subject.settle(inference)
        ended = time.thread_time_ns()
        fresh = [make(subject.clock.now()) for make in coming[at : at + size]]
        made_at = time.thread_time_ns()
        for request in fresh:
            subject.submit(request)
        submitting += time.thread_time_ns() - made_at
        cutting, settling = cutting + cut - began, settling + ended - ran
        at, settled = at + size, settled + size
    return Cost(*(ns / 1e3 / settled for ns in (submitting, cutting, settling)))
