"""When requests come and how long they are. Pure once read: equal arguments, equal traffic."""

from __future__ import annotations

import csv
import functools
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batcher.scheduling.simulate import Arrival

LONGEST = 512  # tokens: where most encoders cut a text
MOST_TOKENS = 65_536
MOST_SIGMA = 10.0


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
            return cls(text, (_tokens(rest, "fixed:N", "N"),))
        if kind == "lognormal":
            return cls(text, lognormal=_lognormal(rest))
        return cls(text, tuple(_file_of_tokens(Path(text))))

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


@functools.lru_cache(maxsize=8)  # the slices of a search, and the length of its answer
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
    try:
        table = list(csv.reader(lines, skipinitialspace=True))
    except csv.Error as error:
        raise BadTraffic(f"is not a CSV file: {error}") from None
    header = [name.strip() for name in table[0]] if table else []
    if "TIMESTAMP" in header:
        column = header.index("TIMESTAMP")
        stamps = [_stamp(row, column, line) for line, row in enumerate(table[1:], start=2) if row]
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
        fraction = re.search(r"(?<=:\d\d)[.,](\d+)", text)
        whole = text if fraction is None else text[: fraction.start()] + text[fraction.end() :]
        try:
            date = datetime.fromisoformat(whole)
            if date.tzinfo is None:  # without a zone there is no summer time to fall into
                date = date.replace(tzinfo=UTC)
            return date.timestamp() + (0.0 if fraction is None else float(f"0.{fraction[1]}"))
        except (ValueError, OverflowError):
            raise BadTraffic(f"line {line}: {text!r} is neither a date nor a number") from None
    if not math.isfinite(value):
        raise BadTraffic(f"line {line}: {text!r} is neither a date nor a number")
    return value


def _lognormal(text: str) -> tuple[float, float, float]:
    rule = "lognormal:MEDIAN:SIGMA[:MAX]"
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise BadTraffic(f"write {rule}")
    median, sigma = _median(parts[0], rule), _float(parts[1])
    if not 0.0 < sigma <= MOST_SIGMA:
        raise BadTraffic(
            f"in {rule}, SIGMA {parts[1]!r} must be a number above 0, {MOST_SIGMA:g} at the most"
        )
    longest = _tokens(parts[2], rule, "MAX") if len(parts) == 3 else float(LONGEST)
    return median, sigma, longest


def _tokens(text: str, rule: str, name: str) -> float:
    value = _float(text)
    if not (1 <= value <= MOST_TOKENS and value % 1 == 0):
        raise BadTraffic(
            f"in {rule}, {name} {text!r} must be a whole number from 1 to {MOST_TOKENS}"
        )
    return value


def _median(text: str, rule: str) -> float:
    value = _float(text)
    if not 1 <= value <= MOST_TOKENS:
        raise BadTraffic(f"in {rule}, MEDIAN {text!r} must be a number from 1 to {MOST_TOKENS}")
    return value


def _float(text: str) -> float:
    """NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _file_of_tokens(path: Path) -> list[float]:
    found = _numbers(path, least=1.0)
    for number, value in enumerate(found, start=1):
        if value > MOST_TOKENS or value % 1:
            raise BadTraffic(
                f"line {number}: {value:g} is not a whole number from 1 to {MOST_TOKENS}"
            )
    return found


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
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise BadTraffic(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadTraffic("is not a text file") from None
