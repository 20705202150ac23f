"""When requests are sent: rising seconds from the start. Pure: equal arguments, equal times."""

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

MAX_REQUESTS = 1_000_000
BURST = 8  # Requests of one burst,
BURST_SECONDS = 0.001  # all within this: one page that asks for eight things at once.


def poisson(rate: float, seconds: float, seed: int) -> Times:
    """Independent exponential gaps. One seed gives the same gaps, scaled, at every rate."""
    _check(rate, seconds)
    gaps = np.random.default_rng(seed).exponential(1.0, _enough(rate, seconds)) / rate
    times: Times = np.cumsum(gaps)
    return times[times < seconds]


def constant(rate: float, seconds: float) -> Times:
    """One every 1/rate seconds, the first at once."""
    _check(rate, seconds)
    times: Times = np.arange(round(rate * seconds), dtype=np.float64) / rate
    return times


def bursts(rate: float, seconds: float, seed: int) -> Times:
    """`rate` requests a second in bursts of 8: starts are Poisson, each burst is over in 1 ms."""
    starts = poisson(rate / BURST, seconds, seed)
    offsets = np.random.default_rng([seed, BURST]).uniform(0, BURST_SECONDS, (len(starts), BURST))
    times: Times = np.sort((starts[:, np.newaxis] + offsets).ravel())
    return times[times < seconds]


def replay(trace: Sequence[float], rate: float, seconds: float, seed: int) -> Times:
    """A recorded pattern at another speed.

    Takes rate x seconds consecutive gaps of `trace` (rising times, seconds) from a place the seed
    chooses, going round at the end, and stretches them to last `seconds`: the rate is exact, the
    bursts keep their shape.
    """
    _check(rate, seconds)
    gaps = np.diff(np.asarray(trace, dtype=np.float64))
    if len(gaps) == 0 or gaps.min() < 0 or gaps.sum() == 0:
        raise ValueError("a trace needs at least two times, rising")
    count = max(1, round(rate * seconds))
    start = int(np.random.default_rng(seed).integers(len(gaps)))
    taken = gaps[(start + np.arange(count)) % len(gaps)]
    if taken.sum() == 0:
        raise ValueError("this part of the trace has no time in it; use another seed")
    elapsed = np.cumsum(taken) * (seconds / taken.sum())
    times: Times = elapsed - elapsed[0]
    return times


def read_trace(path: Path) -> list[float]:
    """Arrival times in seconds from the first, of a CSV file with a TIMESTAMP column."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if "TIMESTAMP" not in (rows.fieldnames or ()):
            raise ValueError(f"{path.name} has no TIMESTAMP column")
        stamps = sorted(_seconds(row["TIMESTAMP"]) for row in rows)
    if len(stamps) < 2:
        raise ValueError(f"{path.name} has no two times")
    return [stamp - stamps[0] for stamp in stamps]


def _seconds(stamp: str) -> float:
    # Seven digits of fraction, one more than datetime takes.
    whole, _, fraction = stamp.partition(".")
    return datetime.fromisoformat(whole).timestamp() + float(f"0.{fraction or 0}")


def _enough(rate: float, seconds: float) -> int:
    expected = rate * seconds  # Eight standard deviations above: short once in 10^15 runs.
    return int(expected + 8 * expected**0.5 + 16)


def _check(rate: float, seconds: float) -> None:
    if rate <= 0 or seconds <= 0:
        raise ValueError("rate and seconds must be above 0")
    if rate * seconds > MAX_REQUESTS:
        raise ValueError(f"{rate:g}/s for {seconds:g} s is over {MAX_REQUESTS} requests")
