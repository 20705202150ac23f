"""When requests come and how long they are. Pure once read: equal arguments, equal traffic."""

from __future__ import annotations

import csv
import functools
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batcher.simulate import Arrival

LONGEST = 512  # tokens: where most encoders cut a text


class BadTraffic(ValueError):
    """What is wrong with a file or a description, in one line."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a request."""

    name: str
    values: tuple[float, ...] = ()  # drawn from, each as likely as the other
    lognormal: tuple[float, float, float] | None = None  # median, sigma, longest

    @classmethod
    def fixed(cls, tokens: int) -> Lengths:
        return cls(f"fixed:{tokens}", (float(tokens),))

    @classmethod
    def parse(cls, text: str) -> Lengths:
        """fixed:N, lognormal:MEDIAN:SIGMA[:MAX] or the path of a file. Raises BadTraffic."""
        kind, _, rest = text.partition(":")
        if kind == "fixed":
            return cls(text, (_above_zero(rest, "fixed:N takes a number of tokens"),))
        if kind == "lognormal":
            return cls(text, lognormal=_lognormal(rest))
        return cls(text, tuple(_numbers(Path(text), least=1.0)))

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        if self.lognormal is not None:
            median, sigma, longest = self.lognormal
            drawn = np.clip(random.lognormal(math.log(median), sigma, count), 1, longest)
        else:
            drawn = random.choice(np.asarray(self.values), count)
        return np.rint(drawn).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Traffic:
    lengths: Lengths
    deadline: float  # seconds from the arrival
    seed: int
    gaps: tuple[float, ...] | None = None  # recorded; None: Poisson

    def requests(self, rate: float, count: int) -> list[Arrival]:
        """`count` of them at `rate`. Neighbouring rates share their luck: the same gaps, scaled."""
        times, tokens = _drawn(self.lengths, self.seed, self.gaps, count)
        return [
            Arrival(at, cost, at + self.deadline)
            for at, cost in zip((times / rate).tolist(), tokens, strict=True)
        ]

    def lengths_seen(self, count: int) -> NDArray[np.int64]:
        return np.asarray(_drawn(self.lengths, self.seed, self.gaps, count)[1])


@functools.lru_cache(maxsize=2)  # the slices of a search, and the length of its answer
def _drawn(
    lengths: Lengths, seed: int, gaps: tuple[float, ...] | None, count: int
) -> tuple[NDArray[np.float64], list[int]]:
    """Arrival times at a rate of one a second, and tokens."""
    random = np.random.default_rng(seed)
    if gaps is None:
        times = np.cumsum(random.exponential(1.0, count))
    else:
        # As many gaps as are asked for from a place the seed chooses, going round at the end,
        # stretched to the rate: it is exact, and the bursts keep their shape.
        start = int(random.integers(len(gaps)))
        taken = np.asarray(gaps)[(start + np.arange(count)) % len(gaps)]
        total = float(taken.sum()) or 1.0
        times = np.cumsum(taken) * (count / total)
    return times, lengths.draw(count, random).tolist()


def read_arrivals(path: Path) -> tuple[float, ...]:
    """The gaps between arrivals, in seconds: of a CSV file with a TIMESTAMP column (dates or
    seconds), or of seconds, one a line. Raises BadTraffic."""
    lines = _lines(path)
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    if "TIMESTAMP" in header:
        column = header.index("TIMESTAMP")
        rows = list(csv.reader(lines[1:]))
        stamps = [_stamp(row, column, line) for line, row in enumerate(rows, start=2) if row]
    elif len(header) > 1:
        raise BadTraffic("a CSV file needs a column TIMESTAMP in its first line")
    else:
        stamps = _numbers(path, least=-math.inf)
    gaps = np.diff(np.sort(np.asarray(stamps)))
    if len(gaps) == 0 or gaps.sum() == 0.0:
        raise BadTraffic("needs at least two arrivals at different times")
    return tuple(gaps.tolist())


def _stamp(row: list[str], column: int, line: int) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        # Seven digits of fraction are common, and one more than datetime takes.
        whole, _, fraction = text.partition(".")
        try:
            return datetime.fromisoformat(whole).timestamp() + float(f"0.{fraction or 0}")
        except ValueError:
            raise BadTraffic(f"line {line}: {text!r} is no date and no number") from None
    if not math.isfinite(value):
        raise BadTraffic(f"line {line}: {text!r} is no date and no number")
    return value


def _lognormal(text: str) -> tuple[float, float, float]:
    rule = "write lognormal:MEDIAN:SIGMA or lognormal:MEDIAN:SIGMA:MAX"
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise BadTraffic(rule)
    median, sigma = _above_zero(parts[0], rule), _above_zero(parts[1], rule)
    longest = _above_zero(parts[2], rule) if len(parts) == 3 else float(LONGEST)
    if longest < 1:
        raise BadTraffic("MAX must be at least 1")
    return median, sigma, longest


def _above_zero(text: str, rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise BadTraffic(f"{rule}, and {text!r} is not a number above 0")
    return value


def _numbers(path: Path, least: float) -> list[float]:
    found: list[float] = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            value = float(line)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= least):
            at_least = f" of at least {least:g}" if math.isfinite(least) else ""
            raise BadTraffic(f"line {number}: {line[:40]!r} is not a number{at_least}")
        found.append(value)
    if not found:
        raise BadTraffic("the file is empty")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise BadTraffic(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadTraffic("is not a text file") from None
