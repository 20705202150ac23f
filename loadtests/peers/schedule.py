"""What is measured, in which order. Pure.

Rounds are interleaved: each server has its turn in every round, so that whatever else the machine
does meets all alike. The first round of a load is the closed loop alone: it finds the best
throughput, of which the open loop's rates are shares.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

CALLERS = (1, 8, 64, 256)
# The lowest is for the simulated accelerator only: one that every server there can serve.
SHARES = {"simulated": (0.05, 0.3, 0.6, 0.9), "default": (0.3, 0.6, 0.9)}
FEW = 8  # Callers whose batches are so small that there are many of them in half the time.
HOPELESS = 1.15  # Times what a server reached at most: nothing is learned from a rate above that.

Kind = Literal["closed", "open"]
Key = tuple[str, str, str, str, int]


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement. Latencies in ms; in the closed loop they are wrk's."""

    peer: str
    load: str
    kind: Kind
    level: float  # Callers; in the open loop requests a second.
    share: float  # Of the best throughput; 0 in the closed loop.
    repeat: int
    per_s: float  # Answered.
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int  # Requests without their 200.
    requests: int
    cores: float  # Used by the server, all its processes.
    resident_mb: float
    late: bool = False  # The generator itself fell behind.

    @property
    def key(self) -> Key:
        return key(self.peer, self.load, self.kind, self.share or self.level, self.repeat)

    @property
    def good_per_s(self) -> float:
        """Answers of 200: wrk counts the others as well."""
        return self.per_s * (1 - self.failed / self.requests) if self.requests else 0.0


def key(peer: str, load: str, kind: Kind, what: float, repeat: int) -> Key:
    """Of a measurement; `what` is the callers, or the share of the best throughput."""
    return peer, load, kind, f"{what:g}", repeat


@dataclass(frozen=True, slots=True)
class Visit:
    """One start of a server, and what is measured before it is stopped."""

    peer: str
    load: str
    repeat: int  # Of the closed loop.
    callers: tuple[int, ...]
    shares: tuple[float, ...]
    opens: tuple[int, ...] = ()  # The repeats of the open loop, each of all shares.


def visits(
    peers: Mapping[str, Sequence[str]],  # The loads of each, by its name.
    loads: Sequence[str],
    repeats: int,
    callers: Sequence[int],
    shares: Mapping[str, Sequence[float]],
) -> Iterator[Visit]:
    """All of a comparison, in order. The servers' order turns by one each round."""
    for load in loads:
        names = [name for name, theirs in peers.items() if load in theirs]
        last = max(1, repeats - 1)
        for number in range(last + 1):
            turn = number % max(1, len(names))
            # The first round ends before rates are known; the last makes up for it.
            opens = range(number, repeats + 1) if number == last else range(number, number + 1)
            for name in names[turn:] + names[:turn]:
                yield Visit(
                    name,
                    load,
                    number,
                    tuple(callers) if number < repeats else (),
                    tuple(shares[load]) if number else (),
                    tuple(opens) if number else (),
                )


def best(points: Sequence[Point], load: str) -> float:
    """The best throughput of any server in the first round: the rates must not move later."""
    first = [p for p in points if p.load == load and p.kind == "closed" and p.repeat == 0]
    return max((p.good_per_s for p in first), default=0.0)


def capacity(points: Sequence[Point], peer: str, load: str) -> float:
    """The most that this server reached in any closed loop so far."""
    own = [p for p in points if (p.peer, p.load, p.kind) == (peer, load, "closed")]
    return max((p.good_per_s for p in own), default=0.0)


def hopeless(points: Sequence[Point], peer: str, load: str, rate: float) -> bool:
    return rate > HOPELESS * capacity(points, peer, load)


def rate_of(points: Sequence[Point], load: str, share: float) -> float:
    """Requests a second, to three digits: what a table can show."""
    return float(f"{share * best(points, load):.3g}")


def figure(points: Sequence[Point], name: str) -> float | None:
    """The median of a figure over the repeats; None when nothing was measured."""
    return median(float(getattr(point, name)) for point in points) if points else None


def closed_seconds(callers: int, seconds: float) -> int:
    """Of one closed loop: wrk counts in whole ones."""
    return max(1, round(seconds / 2 if callers <= FEW else seconds))


def seconds_of(plan: Sequence[Visit], seconds: float, start: float) -> float:
    """An estimate. `start`: seconds to start, check, warm and stop a server. Nobody knows yet at
    how many rates a server is hopeless; it is about half."""
    return sum(
        start
        + sum(closed_seconds(callers, seconds) + 0.3 for callers in visit.callers)
        + (seconds + 0.8) * len(visit.shares) * len(visit.opens) / 2
        for visit in plan
    )
