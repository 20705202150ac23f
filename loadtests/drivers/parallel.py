"""Load from several processes: one event loop of ours is not enough for a GPU."""

import contextlib
import multiprocessing
import multiprocessing.pool
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from loadtests.drivers import arrivals, closedloop
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.outcomes import OK, percentiles
from loadtests.drivers.target import Target

SKIP = 0.25  # Of the time.


class Load(NamedTuple):
    """Of all drivers together, over the time that they all sent."""

    answered_per_s: float
    p50_ms: float
    p95_ms: float
    failed: int


@contextlib.contextmanager
def drivers(count: int) -> Iterator[multiprocessing.pool.Pool]:
    """Processes that are there already when the first run begins."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        pool.map(_nothing, range(count), chunksize=1)
        yield pool


def saturate(
    pool: multiprocessing.pool.Pool,
    count: int,
    target: Target,
    requests: Sequence[bytes],
    callers: int,
    seconds: float,
) -> Load:
    """Closed loop, the callers shared among `count` drivers."""
    shares = [
        (target, requests[number::count], max(1, callers // count), seconds)
        for number in range(count)
    ]
    return summed(pool.starmap(_closed, shares, chunksize=1))


def offer(
    pool: multiprocessing.pool.Pool,
    count: int,
    target: Target,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
) -> Load:
    """Open loop, Poisson: each driver a part of the rate, which together is Poisson again."""
    shares = [
        (target, requests[number::count], rate / count, seconds, number) for number in range(count)
    ]
    return summed(pool.starmap(_open, shares, chunksize=1))


def summed(parts: Sequence[tuple[float, list[float], int]]) -> Load:
    latencies = [latency for _, each, _ in parts for latency in each]
    p50, p95 = percentiles(latencies, (50, 95))
    rate = sum(each for each, _, _ in parts)
    return Load(rate, p50 * 1e3, p95 * 1e3, sum(failed for *_, failed in parts))


def _nothing(number: int) -> int:
    return number


def _closed(
    target: Target, requests: Sequence[bytes], callers: int, seconds: float
) -> tuple[float, list[float], int]:
    return _part(closedloop.drive(target, requests, callers, seconds))


def _open(
    target: Target, requests: Sequence[bytes], rate: float, seconds: float, seed: int
) -> tuple[float, list[float], int]:
    times = arrivals.poisson(rate, seconds, seed)
    return _part(referee(target, requests, np.asarray(times), seconds))


def _part(run: Run) -> tuple[float, list[float], int]:
    """Answers a second, their latencies, and how many were no 200; without the first quarter."""
    since = run.begin + SKIP * run.seconds
    counted = [out for out in run.outcomes if out.scheduled >= since]
    good = [out for out in counted if out.status == OK]
    until = max([run.begin + run.seconds, *(out.answered for out in good)])
    latencies = [out.latency for out in good]
    return len(good) / (until - since), latencies, len(counted) - len(good)
