"""What does deciding cost? CPU time of one thread, with no model and no HTTP.

Requests are submitted one by one, batches are cut from a standing backlog and settled with results
that are there already. Judged is the schedule alone: equal inputs, admission, the queue, when a
batch is due, what goes in it, and learning. Reported beside it: the whole collector (lock, states,
outcomes, statistics), a bare queue under a lock, which is the least that any engine does, batches
of one, where nothing is shared out, and requests that are refused at the door.
"""

import argparse
import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from statistics import median

import numpy as np

from batcher.request import Request
from loadtests.checks.policy_cost_targets import (
    DEVICE,
    LIMIT,
    Bare,
    CostTarget,
    Deciding,
    NullSink,
    Whole,
)
from loadtests.drivers.target import count_between
from loadtests.reports.finding import Finding, Measured, at_most, spread
from loadtests.reports.record import Record

TITLE = (
    "CPU time of the schedule alone, for each request; the whole collector is reported beside it"
)
MOST_US = 10.0
BACKLOG = 256  # More than the policy looks at for one batch.
DEADLINE = 30.0
TARGETS: Mapping[str, Callable[[int], CostTarget]] = {
    "schedule": Deciding,
    "collector": Whole,
    "bare queue": Bare,
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who sends what. `lengths` and `priorities` are drawn from evenly."""

    callers: int
    lengths: Sequence[int]
    priorities: Sequence[int]
    limit: int = LIMIT  # Of a batch.
    is_judged: bool = True


TRAFFIC: Mapping[str, Traffic] = {
    "one caller, equal lengths": Traffic(1, (64,), (3,)),
    "64 callers, lengths 5 to 128": Traffic(64, range(5, 129), (3,)),
    "… in two lanes": Traffic(64, range(5, 129), (1, 6)),
    "batches of one": Traffic(64, range(5, 129), (3,), limit=1, is_judged=False),
}


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
    lines = ["traffic,target,repeat,submit_us,next_batch_us,settle_us"]
    for what, traffic in TRAFFIC.items():
        costs: dict[str, list[Cost]] = defaultdict(list)
        for repeat in range(args.repeats):
            for name, target in TARGETS.items():
                made = requests(traffic, args.seed + repeat)
                cost = spent(target(traffic.limit), made, args.requests, traffic.limit)
                costs[name].append(cost)
                lines.append(
                    f'"{what}",{name},{repeat},{cost.submit},{cost.next_batch},{cost.settle}'
                )
        totals = {name: median(cost.total for cost in each) for name, each in costs.items()}
        print(f"{what}: {totals}", flush=True)
        findings += [
            _deciding(what, totals["schedule"], traffic.is_judged),
            Finding(f"{what}: the whole collector", totals["collector"], "us"),
            Finding(f"{what}: a bare queue", totals["bare queue"], "us"),
        ]
        notes += [
            f"- {what}, {name}: {spread([cost.total for cost in each])} us; submit "
            f"{median(c.submit for c in each):.2f}, next_batch "
            f"{median(c.next_batch for c in each):.2f}, settle "
            f"{median(c.settle for c in each):.2f}"
            for name, each in costs.items()
        ]
    turned_away = [
        refused(requests(TRAFFIC["… in two lanes"], args.seed + repeat), args.requests)
        for repeat in range(args.repeats)
    ]
    findings.append(Finding("refused at the door: the schedule", median(turned_away), "us"))
    notes.append(f"- refused at the door, schedule: {spread(turned_away)} us")
    record.text("cpu.csv", "\n".join(lines) + "\n")
    return Measured(
        findings,
        "Judged is the schedule alone; the collector, with its lock, outcomes and statistics, is "
        "reported, and so are batches of one and refusals behind "
        f"a backlog. Batches of at most {LIMIT} from a backlog of {BACKLOG}; CPU time of this "
        "thread, for each request. Medians of interleaved repeats (lowest to highest):\n\n"
        + "\n".join(notes),
    )


def requests(traffic: Traffic, seed: int) -> Iterator[Callable[[float], Request]]:
    """For ever: each makes its request at a given time. No two payloads are alike."""
    rng = np.random.default_rng(seed)
    sink = NullSink()

    def make(number: int, length: int, priority: int, caller: str) -> Callable[[float], Request]:
        ids = np.full(length, number, dtype=np.int32)
        return lambda now: Request(
            ids, length, now, now + DEADLINE, sink, None, priority, caller=caller
        )

    for number in count():
        length = int(traffic.lengths[int(rng.integers(len(traffic.lengths)))])
        priority = traffic.priorities[int(rng.integers(len(traffic.priorities)))]
        yield make(number, length, priority, f"caller {number % traffic.callers}")


def _deciding(what: str, measured: float, is_judged: bool) -> Finding:
    name = f"{what}: deciding"
    return at_most(name, measured, MOST_US, "us") if is_judged else Finding(name, measured, "us")


def refused(made: Iterator[Callable[[float], Request]], many: int) -> float:
    """Microseconds of CPU time for each of so many requests whose deadline a backlog rules out."""
    deciding = Deciding(LIMIT)
    for make in islice(made, BACKLOG):
        deciding.submit(make(0.0))
    deciding.next_batch()  # The device is busy, so that nothing has to be tried.
    now = deciding.clock.now()
    late = [make(now - DEADLINE + DEVICE.time(1, 1) / 2) for make in islice(made, many)]
    gc.collect()
    began = time.thread_time_ns()
    away = sum(deciding.refuses(request) for request in late)
    took = time.thread_time_ns() - began
    if away != len(late):
        raise RuntimeError(f"{len(late) - away} of {len(late)} were let in: nothing is measured")
    return took / 1e3 / len(late)


def spent(
    target: CostTarget,
    made: Iterator[Callable[[float], Request]],
    many: int,
    limit: int = LIMIT,
) -> Cost:
    """CPU time of about so many requests, after the backlog stands and the first batches ran."""
    coming = list(islice(made, many + BACKLOG))
    for make in coming[:BACKLOG]:
        target.submit(make(target.clock.now()))
    submitting = cutting = settling = 0
    at, settled = BACKLOG, 0
    gc.collect()
    while at + limit <= len(coming):
        began = time.thread_time_ns()
        batch = target.next_batch()
        cut = time.thread_time_ns()
        size, longest = len(batch), max(request.cost for request in batch)
        inference = DEVICE.time(size, longest)
        target.clock.time += inference
        ran = time.thread_time_ns()
        target.settle(inference)
        ended = time.thread_time_ns()
        fresh = [make(target.clock.now()) for make in coming[at : at + size]]
        made_at = time.thread_time_ns()
        for request in fresh:
            target.submit(request)
        submitting += time.thread_time_ns() - made_at
        cutting, settling = cutting + cut - began, settling + ended - ran
        at, settled = at + size, settled + size
    return Cost(*(ns / 1e3 / settled for ns in (submitting, cutting, settling)))
