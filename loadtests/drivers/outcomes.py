"""What came of each request, and the few numbers that sum it up. Nobody is left out of them."""

import asyncio
import csv
import gc
import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.drivers.http_client import Answer
from loadtests.drivers.timer import now

OK = "200"
LOST = "lost"  # No answer when the run's grace ended.
LATE_SECONDS = 0.005  # A driver later than this at its 99th percentile is part of what it measured.

COLUMNS = "scheduled_s sent_s answered_s status batch queue_ms inference_ms".split()  # noqa: SIM905

_PHASE = re.compile(rb"(tokenize|queue|inference|total);dur=([0-9.]+)")
_BATCH_SIZE = re.compile(rb"size=(\d+)")
_BATCH_TOKENS = re.compile(rb"tokens=(\d+)")
_REASON = re.compile(rb"reason=(\w+)")


class Outcome:
    """One request. Times are seconds on the timer's clock; `answered` is 0 until it is."""

    __slots__ = ("answered", "body", "scheduled", "sent", "status", "timing")

    def __init__(self, scheduled: float) -> None:
        self.scheduled = scheduled
        self.sent = 0.0
        self.answered = 0.0
        self.status = LOST
        self.timing = b""
        self.body = b""

    def settle(self, answer: Answer) -> None:
        """Nothing happens when it was called lost before."""
        if self.answered:
            return
        self.answered = now()
        self.status = answer.error or str(answer.status)
        self.timing, self.body = answer.timing, answer.body

    def lose(self, at: float) -> None:
        """Call it unanswered: it took at least until `at`."""
        self.sent, self.answered, self.status = self.sent or at, at, LOST

    @property
    def latency(self) -> float:
        """From when it should have been sent: a driver or server that stalls cannot hide it."""
        return self.answered - self.scheduled

    @property
    def batch_size(self) -> int:
        found = _BATCH_SIZE.search(self.timing)
        return int(found[1]) if found else 0

    @property
    def batch_tokens(self) -> int:
        """As run, padding included."""
        found = _BATCH_TOKENS.search(self.timing)
        return int(found[1]) if found else 0

    @property
    def batch_reason(self) -> str:
        """Why the batch was closed; empty where the server does not say."""
        found = _REASON.search(self.timing)
        return found[1].decode() if found else ""

    def phases(self) -> dict[str, float]:
        """Milliseconds by phase, from the answer's Server-Timing."""
        return {name.decode(): float(value) for name, value in _PHASE.findall(self.timing)}


@contextmanager
def without_collections() -> Iterator[None]:
    """A bounded run makes bounded garbage; a collection would delay the sends."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def wait_or_lose(
    finished: asyncio.Event, outcomes: Sequence[Outcome], seconds: float
) -> None:
    """Until `finished` is set; after `seconds` the requests without an answer are lost."""
    try:
        await asyncio.wait_for(finished.wait(), seconds)
    except TimeoutError:
        ended = now()
        for outcome in outcomes:
            if not outcome.answered:
                outcome.lose(ended)


@dataclass(frozen=True, slots=True)
class Summary:
    """Latencies are of answered (200) and lost requests, in ms; refusals are only counted."""

    requests: int
    offered_per_s: float
    answered_per_s: float
    answered_share: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    mean_batch: float
    send_lag_p99_ms: float
    late_driver: bool
    statuses: dict[str, int]

    def __str__(self) -> str:
        statuses = " ".join(f"{name}:{count}" for name, count in sorted(self.statuses.items()))
        late = f"  DRIVER LATE by {self.send_lag_p99_ms:.1f} ms" if self.late_driver else ""
        return (
            f"offered {self.offered_per_s:.1f}/s  answered {self.answered_per_s:.1f}/s  "
            f"p50 {self.p50_ms:.1f}  p95 {self.p95_ms:.1f}  p99 {self.p99_ms:.1f}  "
            f"max {self.max_ms:.1f} ms  mean batch {self.mean_batch:.1f}  [{statuses}]{late}"
        )


def summarise(outcomes: Sequence[Outcome], begin: float, end: float) -> Summary:
    """The numbers of the requests scheduled in [begin, end), of which there must be one."""
    chosen = [outcome for outcome in outcomes if begin <= outcome.scheduled < end]
    if not chosen:
        raise ValueError("no request was due in the measured time")
    ok = [outcome for outcome in chosen if outcome.status == OK]
    timed = [outcome.latency for outcome in chosen if outcome.status in (OK, LOST)]
    p50, p95, p99, most = (value * 1e3 for value in percentiles(timed, (50, 95, 99, 100)))
    lag = percentiles([outcome.sent - outcome.scheduled for outcome in chosen], (99,))[0]
    # A backlog is answered after `end`: its rate is over the time that took, not over the plan.
    took = max([end, *(outcome.answered for outcome in ok)]) - begin
    return Summary(
        requests=len(chosen),
        offered_per_s=len(chosen) / (end - begin),
        answered_per_s=len(ok) / took,
        answered_share=len(ok) / len(chosen),
        mean_ms=float(np.mean(timed)) * 1e3 if timed else 0.0,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=most,
        mean_batch=mean_batch(ok),
        send_lag_p99_ms=lag * 1e3,
        late_driver=lag > LATE_SECONDS,
        statuses=dict(Counter(outcome.status for outcome in chosen)),
    )


def percentiles(values: Sequence[float], which: Sequence[float]) -> list[float]:
    """By nearest rank from above: an answer that somebody really got. Zeros when there are none."""
    if not values:
        return [0.0] * len(which)
    found: NDArray[np.float64] = np.percentile(np.asarray(values), which, method="higher")
    return [float(value) for value in found]


def batch_sizes(outcomes: Sequence[Outcome]) -> dict[int, float]:
    """How many batches of each size: every request speaks for 1/size of its batch."""
    sizes = Counter(outcome.batch_size for outcome in outcomes if outcome.batch_size)
    return {size: count / size for size, count in sorted(sizes.items())}


def mean_batch(outcomes: Sequence[Outcome]) -> float:
    """Requests a batch; 0 where the server does not say."""
    histogram = batch_sizes(outcomes)
    batches = sum(histogram.values())
    return sum(size * count for size, count in histogram.items()) / batches if batches else 0.0


def write_raw(path: Path, outcomes: Sequence[Outcome], begin: float) -> None:
    """One gzipped CSV line a request; times in seconds from `begin`."""
    with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for outcome in outcomes:
            phases = outcome.phases()
            times = (outcome.scheduled, outcome.sent, outcome.answered)
            rows.writerow(
                [f"{time - begin:.6f}" if time else "" for time in times]
                + [outcome.status, outcome.batch_size or ""]
                + [phases.get("queue", ""), phases.get("inference", "")]
            )
