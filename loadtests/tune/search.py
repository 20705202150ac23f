"""Where a setting's limit lies, and which setting is better. Pure: someone else measures.

A look is one short run at one rate. All looks at a candidate are one curve, p95 over rate, that may
only rise (isotonic regression), so that one unlucky look is outvoted instead of misleading the
search. The limit is where the curve crosses the target.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

WORST = 8.0  # A p95 beyond this many targets says no more: how long a collapse lasts is chance.
STEP = 1.3  # Between looks until one holds and one does not.
NARROW = 1.06  # A bracket closer than this is not halved again, but looked at again.
HOPELESS = 0.75  # Of the best limit so far: not worth another look.
LEAST_NOISE = 0.03  # Repeats that agree by chance must not make a gain of 1 % an answer.


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings that differ from the defaults, as environment variables; none: the defaults."""

    settings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        short = (f"{key.removeprefix('BATCHER_').lower()}={value}" for key, value in self.settings)
        return " ".join(short) or "default"

    def variables(self) -> frozenset[str]:
        return frozenset(key for key, _ in self.settings)

    def joined(self, other: "Candidate") -> "Candidate":
        return Candidate(tuple(sorted((*self.settings, *other.settings))))


DEFAULT = Candidate()


@dataclass(frozen=True, slots=True)
class Look:
    """`p95_ms` is infinite where too few were answered; `requests` is its weight."""

    rate: float
    p95_ms: float
    requests: int


# (candidate, rate, which): looks of one `which` have the same luck, whoever is looked at.
Probe = Callable[[Candidate, float, int], Look]
Curve = list[tuple[float, float]]  # (rate, p95 in targets), both rising


def curve(looks: Sequence[Look], target_ms: float) -> Curve:
    """The rising curve nearest to the looks: pool adjacent violators, on the logarithm.

    Looks at one rate count by their median: what else the machine did for a moment is left out.
    """
    at: dict[float, list[tuple[float, int]]] = defaultdict(list)
    for look in looks:
        ratio = min(WORST, max(1e-3, look.p95_ms / target_ms))
        at[look.rate].append((math.log(ratio), look.requests))
    blocks: list[tuple[list[float], float, int]] = []  # rates, mean, weight
    for rate, seen in sorted(at.items()):
        weight = sum(requests for _, requests in seen)
        block = ([rate], median(value for value, _ in seen), weight)
        while blocks and blocks[-1][1] >= block[1]:
            rates, mean, before = blocks.pop()
            both = before + block[2]
            block = (rates + block[0], (mean * before + block[1] * block[2]) / both, both)
        blocks.append(block)
    return [(rate, math.exp(mean)) for rates, mean, _ in blocks for rate in rates]


def limit(looks: Sequence[Look], target_ms: float) -> float:
    """The highest rate whose p95 is within the target, interpolated.

    The top rate when all hold (it is at least that); when none does, a guess below the lowest.
    """
    points = curve(looks, target_ms)
    low = max((point for point in points if point[1] <= 1), default=None)
    high = min((point for point in points if point[1] > 1), default=None)
    if low is None:
        return points[0][0] / points[0][1]
    if high is None:
        return low[0]
    share = math.log(1 / low[1]) / math.log(high[1] / low[1])
    rate: float = low[0] * (high[0] / low[0]) ** share
    return rate


def holds_somewhere(looks: Sequence[Look], target_ms: float) -> bool:
    return any(value <= 1 for _, value in curve(looks, target_ms))


def next_rate(looks: Sequence[Look], target_ms: float, guess: float) -> float:
    """Where a look tells most: out from the guess until bracketed, then bisection."""
    if not looks:
        return guess
    points = curve(looks, target_ms)
    low = max((point for point in points if point[1] <= 1), default=None)
    high = min((point for point in points if point[1] > 1), default=None)
    if low is None:
        return points[0][0] / (STEP**2 if points[0][1] > 2 else STEP)
    if high is None:
        return low[0] * (STEP**2 if low[1] < 0.6 else STEP)
    return limit(looks, target_ms) if high[0] / low[0] < NARROW else math.sqrt(low[0] * high[0])


def first_guess(alone: float, callers: int, together: float, target: float) -> float:
    """A rate to start from: `alone`, `together` are the latency of 1 and of `callers` callers.

    With s(b) = fixed + each x b, a batch grows until b = rate x s(b), and an unlucky request waits
    for nearly all of the batch before its own: p95 is about 1.95 s(b). Solved for the rate.
    """
    each = max((together - alone) / (callers - 1), alone / 1000)
    fixed = max(alone - each, alone / 1000)
    rate = (1 - 1.95 * fixed / target) / each
    return max(0.15 / alone, min(rate, 0.9 / each))


@dataclass(slots=True)
class Search:
    """Looks so far. `spent` says which share of the time is used up."""

    probe: Probe
    target_ms: float
    spent: Callable[[], float] = lambda: 0.0
    looks: dict[Candidate, list[Look]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def limit(self, candidate: Candidate) -> float:
        return limit(self.looks[candidate], self.target_ms)

    def explore(
        self,
        candidate: Candidate,
        probes: int,
        guess: float,
        until: float,
        leader: float = 0.0,
        first_until: float = 1.0,
    ) -> None:
        """At most `probes` more looks, none after `until`; who has none gets one to `first_until`.

        Stops at one who cannot be near the `leader`'s limit.
        """
        for done in range(probes):
            found = self.looks.get(candidate, [])
            if self.spent() > (until if found else first_until):
                if not found:
                    self.left_out.append(candidate.name)
                return
            rate = next_rate(found, self.target_ms, guess)
            look = self.probe(candidate, rate, len(found))
            self.looks.setdefault(candidate, []).append(look)
            if done + 1 < probes and self.limit(candidate) < HOPELESS * leader:
                return

    def best(self, candidates: Sequence[Candidate], keep: int) -> list[Candidate]:
        seen = [candidate for candidate in candidates if candidate in self.looks]
        return sorted(seen, key=self.limit, reverse=True)[:keep]


def rival(
    search: Search, alternatives: Sequence[Candidate], probes: int, keep: int, until: float
) -> Candidate | None:
    """The best that is not the default, which must have been explored; None: nobody was looked at.

    Rounds: all alternatives, from the default's limit on; then the better half, and so on down to
    `keep`, with the two best joined into one where they set different things; then those again.
    """
    standing = list(alternatives)
    rounds = max(1, math.ceil(math.log2(max(1, len(standing)) / keep))) + 1
    for turn in range(rounds):
        left = until - search.spent()
        deadline = search.spent() + left / (rounds - turn) * (2 if turn == 0 else 1)
        leader = search.limit(search.best([DEFAULT, *standing], 1)[0])
        for candidate in standing:
            search.explore(candidate, probes, leader, deadline, leader, first_until=until)
        ranked = search.best(standing, max(keep, (len(standing) + 1) // 2))
        standing = [each for each in ranked if search.limit(each) >= HOPELESS * leader]
        standing = standing or ranked[:1]
        pair = join(standing)
        if turn + 1 < rounds and pair is not None and pair not in search.looks:
            standing.insert(0, pair)
    others = [candidate for candidate in search.looks if candidate is not DEFAULT]
    return next(iter(search.best(others, 1)), None)


def join(ranked: Sequence[Candidate]) -> Candidate | None:
    """The first and the next that sets something else."""
    for other in ranked[1:]:
        if not other.variables() & ranked[0].variables():
            return ranked[0].joined(other)
    return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`gains`: the challenger's limit over the default's, one of each repeat."""

    winner: Candidate
    gains: tuple[float, ...]
    limits: dict[Candidate, float]

    @property
    def gain(self) -> float:
        return median(self.gains)

    @property
    def noise(self) -> float:
        return noise(self.gains)


def noise(gains: Sequence[float]) -> float:
    """Half the spread of the repeats, and never less than what one run of luck can do."""
    return max(LEAST_NOISE, (max(gains) - min(gains)) / 2)


def shared_rates(limits: Sequence[float], count: int) -> list[float]:
    """Rates at which both are measured: across both limits, and a little beyond them."""
    low, high = min(limits) * 0.92, max(limits) * 1.08
    return [low * (high / low) ** (place / (count - 1)) for place in range(count)]


def across(looks: Sequence[Sequence[Look]], target_ms: float) -> bool:
    """Whether the target lies between: at the lowest rate one holds, at the highest one does not.

    `looks`: of each candidate, at the same rates from the lowest on.
    """
    lowest, highest = ([each[place].p95_ms for each in looks] for place in (0, -1))
    return min(lowest) <= target_ms < max(highest)


def judge(
    challenger: Candidate, looks: dict[Candidate, list[list[Look]]], target_ms: float
) -> Verdict:
    """From looks by repeat at the same rates. Equal within the noise: the default wins.

    So does it when the challenger was never seen within the target.
    """
    pairs = zip(looks[challenger], looks[DEFAULT], strict=True)
    gains = tuple(limit(ours, target_ms) / limit(theirs, target_ms) for ours, theirs in pairs)
    pooled = {name: [look for each in repeats for look in each] for name, repeats in looks.items()}
    better = median(gains) > 1 + noise(gains)
    holds = holds_somewhere(pooled[challenger], target_ms)
    limits = {name: limit(each, target_ms) for name, each in pooled.items()}
    return Verdict(challenger if better and holds else DEFAULT, gains, limits)
