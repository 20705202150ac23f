"""Which of several backends is to run which batch, from how long they take. Decisions only.

A backend that pads computes on every place of the rectangle, one that does not on the tokens alone:
these are the tokens it `computes`. On a line through what was measured of it that gives its time.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

WORTH = (
    1.05  # a second backend is kept only where the best single one is slower than this somewhere
)

Lengths = Sequence[int]
"""The tokens of each input of a batch."""


# Dense ones for the curves, shortest first; then two as real traffic has them, which judge as well.
DENSE: tuple[Lengths, ...] = ((8,), (32,), (16,) * 8, (16,) * 32, (64,) * 32)
MIXED: tuple[Lengths, ...] = (
    (5, 7, 8, 9, 11, 12, 14, 48),
    (*range(6, 22), *range(6, 22), 40, 64, 96, 128),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds against the tokens that a backend computes, straight in the logarithms."""

    points: tuple[tuple[int, float], ...]  # (tokens, seconds), by tokens, each once; at least one

    def seconds(self, tokens: int) -> float:
        """Beyond the ends the nearest point's time, in proportion above the last one."""
        place = bisect.bisect_left(self.points, (tokens, 0.0))
        if place == 0:
            return self.points[0][1]
        (x0, y0) = self.points[place - 1]
        if place == len(self.points):
            return y0 * tokens / x0
        (x1, y1) = self.points[place]
        share = math.log(tokens / x0) / math.log(x1 / x0)
        return math.exp(math.log(y0) * (1 - share) + math.log(y1) * share)


@dataclass(frozen=True, slots=True)
class Measured:
    """One backend: its seconds by batch (those that time sufficed for), and whether it pads."""

    pads: bool
    seconds: Mapping[tuple[int, ...], float]

    def curve(self) -> Curve:
        dense = {sum(batch): t for batch, t in self.seconds.items() if len(set(batch)) == 1}
        return Curve(tuple(sorted(dense.items())))

    def computes(self, lengths: Lengths) -> int:
        return max(lengths) * len(lengths) if self.pads else sum(lengths)


@dataclass(frozen=True, slots=True)
class Plan:
    """The backends to keep, and how much slower than the best one it is on its worst batch."""

    backends: tuple[str, ...]
    regret: float


class Chooser:
    def __init__(self, backends: Mapping[str, Measured]) -> None:
        self._backends = {name: (each, each.curve()) for name, each in backends.items()}

    def fastest(self, lengths: Lengths) -> str:
        """By their curves. O(batch)."""

        def seconds(name: str) -> float:
            measured, curve = self._backends[name]
            return curve.seconds(measured.computes(lengths))

        return min(self._backends, key=seconds)

    def __str__(self) -> str:
        """Who runs a batch of so many tokens and no padding."""
        runs: list[str] = []
        last = ""
        for tokens in (1 << power for power in range(3, 13)):
            if (name := self.fastest((tokens,))) != last:
                runs.append(f"{name} from {tokens} tokens" if runs else name)
                last = name
        return ", ".join(runs)


def choose(measured: Mapping[str, Measured], *, may_mix: bool) -> Plan:
    """The single backend that is least behind on the batch that suits it least; two of them where
    that is more than WORTH behind and choosing by batch is not, or is less so by as much."""
    batches = set.intersection(*(set(each.seconds) for each in measured.values()))

    def regret(names: Sequence[str]) -> float:
        chooser = Chooser({name: measured[name] for name in names})
        return max(
            measured[chooser.fastest(batch)].seconds[batch]
            / min(each.seconds[batch] for each in measured.values())
            for batch in batches
        )

    plans = [Plan((name,), regret((name,))) for name in measured]
    single = min(plans, key=lambda plan: plan.regret)
    if not may_mix or single.regret <= WORTH or len(measured) < 2:
        return single
    pair = min(
        (Plan(pair, regret(pair)) for pair in combinations(measured, 2)),
        key=lambda plan: plan.regret,
    )
    return pair if pair.regret * WORTH <= single.regret else single
