"""The best possible, to hold measurements against. Pure mathematics; seconds and requests a second.

The accelerator is s(b) = fixed + each*b for a batch of b, at most `limit`; arrivals are Poisson;
the policy is take-all: whenever it is free, it takes everything that waits, up to the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Batch time is linear in the batch's size. Seconds."""

    fixed: float
    each: float
    limit: int

    def time(self, batch: int) -> float:
        return self.fixed + self.each * batch

    @property
    def capacity(self) -> float:
        """Requests a second when every batch is full."""
        return self.limit / self.time(self.limit)

    def two_groups(self, callers: int) -> float:
        """Requests a second of take-all: half of the callers wait while the other half runs."""
        return callers / (2 * self.fixed + self.each * callers)

    def one_group(self, callers: int, turnaround: float = 0.0) -> float:
        """Requests a second when all of N <= limit closed-loop callers share one batch."""
        return callers / (self.time(callers) + turnaround)


@dataclass(frozen=True, slots=True)
class Expected:
    latency: float
    batch: float
    busy: float  # Share of the time.


def exact(rate: float, accelerator: Accelerator) -> Expected:
    """Mean latency and mean batch under take-all, by the Markov chain at batch completions.

    The state is how many wait when a batch completes. From n >= 1 the next batch is min(n, limit),
    from 0 it is the one request that is waited for; Poisson(rate * batch time) more arrive in it.
    Latency follows from the mean number present (integrated over a cycle) by Little's law.
    """
    if not 0 < rate < accelerator.capacity:
        raise ValueError(f"{rate:g}/s is not below the capacity of {accelerator.capacity:g}/s")
    waiting = 8 * accelerator.limit
    while True:
        shares = _stationary(_transitions(rate, accelerator, waiting))
        if shares[-1] < 1e-12 or waiting > 4000:  # What was cut off the top no longer matters.
            break
        waiting *= 2
    present = np.arange(waiting + 1, dtype=np.float64)
    batch = np.clip(present, 1, accelerator.limit)
    time = accelerator.fixed + accelerator.each * batch
    area = np.maximum(present, 1) * time + rate * time**2 / 2
    idle = np.where(present == 0, 1 / rate, 0.0)
    cycle = float(shares @ (time + idle))
    return Expected(
        latency=float(shares @ area) / cycle / rate,
        batch=float(shares @ batch),
        busy=float(shares @ time) / cycle,
    )


def identity(rate: float, batch: float, accelerator: Accelerator) -> float:
    """Mean latency under take-all when batches hold `batch` requests in the mean.

    Exact for Poisson arrivals where batches never reach the limit, from the chain embedded at batch
    completions: b' = max(1, Poisson(rate * s(b))). The model, take-all with linear batch times and
    no limit, is that of Y. Inoue, "Queueing analysis of GPU-based inference servers with dynamic
    batching" (2021), which has the closed form. A service whose latency is above this at its own
    mean batch adds delay that the policy does not ask for.
    """
    fixed, each = accelerator.fixed, accelerator.each
    busy = rate * each
    if not 0 <= busy < 1:
        raise ValueError(f"{rate:g}/s is not below {1 / each:g}/s, where no batch is large enough")
    alone = rate * fixed**2 / batch
    spread = (1 + 2 * rate * busy * fixed + rate * alone) / (1 - busy**2)
    return each * (1 + busy / 2) * spread + fixed * (1 + busy) + alone / 2


@dataclass(frozen=True, slots=True)
class Simulated:
    """Arrivals as a policy without overhead would have served them."""

    latencies: Vector
    batches: int

    @property
    def batch(self) -> float:
        """Requests a batch, in the mean."""
        return len(self.latencies) / self.batches


def take_all(arrivals: Sequence[float], accelerator: Accelerator) -> Vector:
    """The latency of each of these arrivals (rising times), were the service nothing but s(b).

    The same arrivals measured and computed share their luck: the difference of the two means has
    none of the sampling noise of either.
    """
    return usual_loop(arrivals, accelerator, max_wait=0.0).latencies


def usual_loop(arrivals: Sequence[float], accelerator: Accelerator, max_wait: float) -> Simulated:
    """The loop of most batching servers: pick up the first, then fill for `max_wait` from there.

    A batch closes `max_wait` after the accelerator is free and something waits, or when it is
    full: however long the first has waited before, it waits again. Without a wait it is take-all.
    """
    times = np.asarray(arrivals, dtype=np.float64)
    finished = np.empty(len(times))
    free, first, batches = 0.0, 0, 0
    while first < len(times):
        picked_up = max(free, float(times[first]))
        full = first + accelerator.limit
        fills = float(times[full - 1]) if full <= len(times) else float("inf")
        start = max(picked_up, min(fills, picked_up + max_wait))
        last = min(int(np.searchsorted(times, start, side="right")), full)
        free = start + accelerator.time(last - first)
        finished[first:last] = free
        first, batches = last, batches + 1
    return Simulated(finished - times, batches)


def _transitions(rate: float, accelerator: Accelerator, waiting: int) -> Vector:
    """Row n: the probabilities of 0..waiting at the next completion; the last takes the rest."""
    counts = np.arange(waiting + 1, dtype=np.float64)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(counts[1:]))))
    rows = np.zeros((waiting + 1, waiting + 1))
    for present in range(waiting + 1):
        batch = min(max(present, 1), accelerator.limit)
        left = max(present, 1) - batch
        mean = rate * accelerator.time(batch)
        arriving = np.exp(counts * np.log(mean) - mean - log_factorial)
        rows[present, left:] = arriving[: waiting + 1 - left]
        rows[present, -1] += max(0.0, 1.0 - rows[present].sum())
    return rows


def _stationary(transitions: Vector) -> Vector:
    """The shares that solve shares = shares @ transitions and add up to 1."""
    size = len(transitions)
    equations = transitions.T - np.eye(size)
    equations[-1] = 1.0
    right = np.zeros(size)
    right[-1] = 1.0
    return np.asarray(np.linalg.solve(equations, right), dtype=np.float64)
