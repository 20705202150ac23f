"""Trial: one run of one machine in virtual time, and what it measured. Times in seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batcher.limits import Limits
from batcher.scheduling.simulate import Arrival, Point, SimulatedBatch, simulate

BatchTime = Callable[[int, int], float]
"""Seconds that a replica is taken by a batch of this size and these tokens, as it runs them."""

_UNSETTLED = 0.05  # the share of a trial that starts from empty and does not count


@dataclass(frozen=True, slots=True)
class Trial:
    rate: float
    replicas: int
    limits: Limits
    requests: int
    seconds: float  # of traffic
    mean: float  # latency
    p50: float  # of all requests; what got no answer counts as infinitely late
    p95: float
    p99: float
    lost: float  # the share that was refused or dropped
    busy: float  # the share of the replicas' time
    mean_batch: float


def run(
    arrivals: Sequence[Arrival],
    rate: float,
    limits: Limits,
    replicas: int,
    batch_time: BatchTime,
    overhead: float = 0.0,
    profile: Sequence[Point] = (),
    padding_free: bool = False,
) -> Trial:
    """`overhead` is added to every latency; `profile` is what the scheduler knows beforehand."""
    batches = simulate(arrivals, limits, batch_time, replicas, profile, padding_free).batches
    latency = np.full(len(arrivals), np.inf)
    for batch in batches:
        for place in batch.members:
            latency[place] = batch.finish - arrivals[place].at
    first = int(len(arrivals) * _UNSETTLED)
    settled = np.sort(latency[first:] + overhead)
    begin, end = arrivals[first].at, arrivals[-1].at
    p50, p95, p99 = (_percentile(settled, share) for share in (0.50, 0.95, 0.99))
    return Trial(
        rate=rate,
        replicas=replicas,
        limits=limits,
        requests=len(arrivals),
        seconds=end,
        mean=float(settled.mean()),
        p50=p50,
        p95=p95,
        p99=p99,
        lost=float(np.isinf(settled).mean()),
        busy=_busy(batches, begin, end) / max(end - begin, 1e-9) / replicas,
        mean_batch=sum(len(batch.members) for batch in batches) / max(1, len(batches)),
    )


def capacity(
    arrivals: Sequence[Arrival],
    limits: Limits,
    batch_time: BatchTime,
    profile: Sequence[Point] = (),
    padding_free: bool = False,
) -> float:
    """Requests a second of one replica that always has all of these to choose from."""
    at_once = [Arrival(0.0, arrival.cost) for arrival in arrivals]
    tokens = sum(arrival.cost for arrival in arrivals)
    unbounded = dataclasses.replace(limits, max_queue_size=len(arrivals), max_queue_tokens=tokens)
    batches = simulate(at_once, unbounded, batch_time, 1, profile, padding_free).batches
    done = np.cumsum([len(batch.members) for batch in batches])
    # Not the last batches, which take what is left over.
    last = int(np.searchsorted(done, 0.9 * len(at_once)))
    return float(done[last]) / (batches[last].finish - batches[0].start)


def _busy(batches: Sequence[SimulatedBatch], begin: float, end: float) -> float:
    """Replica-seconds between the two."""
    starts = np.asarray([batch.start for batch in batches])
    finishes = np.asarray([batch.finish for batch in batches])
    inside = np.minimum(finishes, end) - np.maximum(starts, begin)
    return float(np.clip(inside, 0.0, None).sum())


def _percentile(rising: NDArray[np.float64], share: float) -> float:
    """One that was observed, never between two: of those, one may be infinite."""
    return float(rising[int(share * (len(rising) - 1))])
