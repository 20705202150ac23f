"""Which of several backends is fastest with what is served: the race, its stopwatch, its verdict.

They run a few kinds of traffic in turns, cut into batches as the scheduler would for each of them.
Where one is near the best with all of it, that one alone is taken; else one for a text alone and
one for more. Not by a crossing of their times: that lies in the noise of a start, and beyond it
padded batches would go to the one that pads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.models.backends import Backend, Ids
from service.repository.spec import EncoderSpec

BUDGET = 8.0  # seconds for all of it
FORMAT = 4  # of the notes and of what is raced
# Of each kind of traffic; the first run may do what no later one does.
_LEAST_ROUNDS, _ROUNDS = 2, 6
_SHARE = 0.5  # of what is left of the budget, for one kind of traffic
# A second backend is kept only where the best single one is slower than this somewhere. Served, the
# difference is less than here: small batches overlap with the answers to those before them, and a
# second model takes memory and caches (64 callers on two cores: 1.17 here was 0.88 served, 1.26
# was 1.03; one caller: 1.08 for the same backend with another one beside it).
WORTH = 1.5
_ALIKE = 0.75  # with padding, a batch's shortest text is no shorter than this share of its longest

Lengths = Sequence[int]
"""The tokens of each text of a batch."""

ALONE, SHORT, MIXED = "one text at a time", "many short", "many mixed"
# The tokens of the texts that wait together; cheapest first. Mixed: log-normal, 5 % over 85.
TRAFFIC: Mapping[str, Sequence[Lengths]] = {
    ALONE: ((8,), (13,), (32,)),
    SHORT: (tuple(range(6, 22)) * 4,),
    MIXED: ((6, *range(8, 25), 26, 27, 29, 31, 33, 36, 39, 43, 47, 53, 60, 72, 96, 128) * 2,),
}

Times = Mapping[str, Mapping[str, float]]
"""Seconds by backend and traffic; each backend has run the same, the first kind at least."""


class Plan(NamedTuple):
    """Which backend runs a text alone and which one more than that; the same, where one will do."""

    alone: str
    together: str


def choose(times: Times, *, may_pair: bool) -> Plan:
    """The backend that is least behind the best one on the traffic that suits it least; two where
    that is more than WORTH."""

    def regret(name: str, kinds: Iterable[str]) -> float:
        best = {kind: min(each[kind] for each in times.values()) for kind in kinds}
        return max(times[name][kind] / best[kind] for kind in best)

    kinds = set.intersection(*(set(each) for each in times.values()))
    single = min(times, key=lambda name: regret(name, kinds))
    many = kinds - {ALONE}
    if not may_pair or not many or regret(single, kinds) <= WORTH:
        return Plan(single, single)
    return Plan(
        min(times, key=lambda name: regret(name, (ALONE,))),
        min(times, key=lambda name: regret(name, many)),
    )


class BackendFailed(Exception):
    """One of those that are raced cannot run what it is given."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"{name}: {error}")
        self.name, self.error = name, error


def benchmark(
    backends: Mapping[str, Backend],
    spec: EncoderSpec,
    max_batch_size: int,
    budget: float = BUDGET,
) -> Times:
    """Raises BackendFailed. A time is the least of its rounds: other work only makes one longer.

    Traffic that time does not suffice for, by what the one before took, is left out, for all.
    """
    taken: dict[str, dict[str, float]] = {name: {} for name in backends}
    ends, per_token = time.perf_counter() + budget, 0.0
    for traffic, waiting in TRAFFIC.items():
        short = [[min(n, spec.max_length) for n in lengths] for lengths in waiting]
        tokens = sum(map(sum, short))
        left = ends - time.perf_counter()
        if per_token and per_token * tokens * _LEAST_ROUNDS > left:
            break
        seconds = _rounds(backends, traffic, short, spec, max_batch_size, left * _SHARE)
        for name, least in seconds.items():
            taken[name][traffic] = least
        per_token = sum(seconds.values()) / tokens
    return taken


def cut(lengths: Lengths, most: int, *, pads: bool) -> list[Lengths]:
    """The batches, of `most` texts, that texts which wait together are run in: as they come where
    nothing is padded, else those of like lengths together, the longest first."""
    if not pads:
        return [lengths[first : first + most] for first in range(0, len(lengths), most)]
    batches: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        if batches and len(batches[-1]) < most and length >= _ALIKE * batches[-1][0]:
            batches[-1].append(length)
        else:
            batches.append([length])
    return list(batches)


def _rounds(
    backends: Mapping[str, Backend],
    traffic: str,
    waiting: Sequence[Lengths],
    spec: EncoderSpec,
    max_batch_size: int,
    seconds: float,
) -> dict[str, float]:
    least = dict.fromkeys(backends, math.inf)
    until = time.perf_counter() + seconds
    for done in range(_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() > until:
            break
        # The shapes of batches are new in each round, as most are that are served: some libraries
        # prepare for each. Those of a lone text soon are not.
        longer = 0 if traffic == ALONE else _ROUNDS - 1 - done
        batches = {
            name: _batches(backend, waiting, longer, spec, max_batch_size)
            for name, backend in backends.items()
        }
        for name, backend in backends.items():
            started = time.perf_counter()
            try:
                for rows in batches[name]:
                    backend.forward(rows)
            except Exception as error:  # each library has its own
                raise BackendFailed(name, error) from error
            least[name] = min(least[name], time.perf_counter() - started)
    return least


def _batches(
    backend: Backend, waiting: Sequence[Lengths], longer: int, spec: EncoderSpec, most: int
) -> list[list[Ids]]:
    pads = not backend.facts().get("padding_free")
    return [
        [np.full(n, spec.vocab_size // 2, dtype=np.int32) for n in batch]
        for lengths in waiting
        for batch in cut([min(n + longer, spec.max_length) for n in lengths], most, pads=pads)
    ]


def from_note(note: Mapping[str, object]) -> Times:
    """Raises ValueError, TypeError or AttributeError for times that make no sense."""
    times: dict[str, dict[str, float]] = {
        name: {traffic: float(seconds) for traffic, seconds in each.items()}  # type: ignore[attr-defined]  # raises, as it says
        for name, each in note.items()
    }
    if len({frozenset(each) for each in times.values()}) != 1:
        raise ValueError("not all of the same traffic")
    if not all(ALONE in each and min(each.values()) > 0 for each in times.values()):
        raise ValueError("times that make no sense")
    return times
