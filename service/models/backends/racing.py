"""How long each of several backends takes on the same batches, in turns. Owns the stopwatch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from service.models.backends import Backend, Ids
from service.models.backends.mix import DENSE, MIXED, Lengths, Measured
from service.models.spec import EncoderSpec

BUDGET = 5.0  # seconds for all of it
_ROUNDS = 5  # of each batch, at most
_LONGEST = 0.35  # of what is left of the budget, for all rounds of a batch


def race(
    backends: Mapping[str, Backend], spec: EncoderSpec, budget: float = BUDGET
) -> dict[str, Measured]:
    """A time is the least of its rounds: other work only ever makes one longer.

    Batches come by their tokens; those that time does not suffice for are left out, for all.
    """
    taken: dict[str, dict[tuple[int, ...], float]] = {name: {} for name in backends}
    ends, per_token = time.perf_counter() + budget, 0.0
    for batch in _batches(spec.max_length):
        left = ends - time.perf_counter()
        if per_token * sum(batch) > left * _LONGEST and len(next(iter(taken.values()))) >= 2:
            break
        for name, seconds in _rounds(backends, batch, spec, left).items():
            taken[name][batch] = seconds
            per_token = max(seconds / sum(batch) * len(backends), per_token * 0.5)
    return {
        name: Measured(not each.facts().get("padding_free"), taken[name])
        for name, each in backends.items()
    }


def _rounds(
    backends: Mapping[str, Backend], batch: Lengths, spec: EncoderSpec, left: float
) -> dict[str, float]:
    rows: list[Ids] = [np.full(n, spec.vocab_size // 2, dtype=np.int32) for n in batch]
    least = dict.fromkeys(backends, math.inf)
    until = time.perf_counter() + left * _LONGEST
    for _ in range(_ROUNDS):
        for name, backend in backends.items():
            started = time.perf_counter()
            backend.forward(rows)
            least[name] = min(least[name], time.perf_counter() - started)
        if time.perf_counter() > until:
            break
    return least


def _batches(max_length: int) -> list[tuple[int, ...]]:
    short = {tuple(min(n, max_length) for n in batch) for batch in (*DENSE, *MIXED)}
    return sorted(short, key=lambda batch: (sum(batch), len(batch)))


def as_note(measured: Mapping[str, Measured]) -> dict[str, object]:
    return {
        name: {
            "pads": each.pads,
            "seconds": [[list(batch), seconds] for batch, seconds in each.seconds.items()],
        }
        for name, each in measured.items()
    }


def from_note(note: Mapping[str, object]) -> dict[str, Measured]:
    """Raises ValueError for what as_note() has not written."""
    measured = {}
    for name, each in note.items():
        match each:
            case {"pads": bool(pads), "seconds": list(pairs)}:
                seconds = {tuple(map(int, batch)): float(taken) for batch, taken in pairs}
            case _:
                raise ValueError("not the times of a backend")
        if not seconds or not all(t > 0 and min(batch) >= 1 for batch, t in seconds.items()):
            raise ValueError("times that make no sense")
        measured[name] = Measured(pads, seconds)
    every = [set(each.seconds) for each in measured.values()]
    if not every or all(len(set(batch)) > 1 for batch in set.intersection(*every)):
        raise ValueError("times of no batch that all have run")
    return measured
