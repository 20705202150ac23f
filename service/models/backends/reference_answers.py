"""The reference's float32 answers to a built-in set of inputs, which every backend must give."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import CannotServe
from service.models.backends import Backend, Ids, Types
from service.models.heads import head_of
from service.models.measures import Measure, Rows, stacked
from service.repository.spec import EncoderSpec

TOGETHER = 8  # inputs in one batch: padded, as most batches are
# Tokens: a longer input is run alone. Padded to it, a batch would take more time and memory than
# all else that a start runs.
LONG = 64
_FEW = 6  # inputs that are compared at every start
# What any number may differ by, as the task's measure has it. Float32 alone: of less precise ones
# see accuracy.py.
CLOSE = 1e-4


class Disagrees(CannotServe):
    """This backend would serve wrong answers."""


@dataclass(frozen=True, slots=True)
class ReferenceAnswers:
    inputs: Sequence[Ids]
    types: Types
    answers: Rows  # as the task's head makes them
    judged: int  # the first so many are usual texts, which int8 is judged by

    @property
    def digest(self) -> str:
        """Of the answers: what was found by comparing with these holds for no others."""
        return hashlib.blake2b(self.answers.tobytes(), digest_size=8).hexdigest()

    @property
    def judged_rows(self) -> slice:
        """Of the answers to these; an input may have a row for each of its tokens."""
        if len(self.answers) == len(self.inputs):
            return slice(self.judged)
        return slice(sum(len(ids) for ids in self.inputs[: self.judged]))

    def few(self) -> ReferenceAnswers:
        """A batch of short inputs of several lengths, the shortest and the longest among them, and
        one that has token types if any has. Cheap."""
        short = [place for place, ids in enumerate(self.inputs) if len(ids) <= LONG]
        short = sorted(short, key=lambda place: len(self.inputs[place])) or [0]
        chosen = {short[at * (len(short) - 1) // (_FEW - 1)] for at in range(_FEW)}
        if self.types is not None:
            chosen |= set([place for place in short if self.types[place].any()][:1])
        places = sorted(chosen)
        types = None if self.types is None else [self.types[place] for place in places]
        rows = np.concatenate([self.answers[self._rows(place)] for place in places])
        return ReferenceAnswers([self.inputs[place] for place in places], types, rows, len(places))

    def _rows(self, place: int) -> slice:
        if len(self.answers) == len(self.inputs):
            return slice(place, place + 1)
        first = sum(len(ids) for ids in self.inputs[:place])
        return slice(first, first + len(self.inputs[place]))

    def apart(self, backend: Backend, measure: Measure) -> float:
        """How far this backend's answers are from these; infinity: they are not finite."""
        found = answers_of(backend, self.inputs, self.types)
        if found.shape != self.answers.shape or not np.isfinite(found).all():
            return float("inf")
        return measure.distance(found, self.answers)


def answers_of(backend: Backend, inputs: Sequence[Ids], types: Types) -> Rows:
    """All their rows, one below the other."""
    return np.concatenate(
        [
            stacked(backend.forward(inputs[part], None if types is None else types[part]))
            for part in parts(inputs)
        ]
    )


def parts(inputs: Sequence[Ids]) -> list[slice]:
    """The batches that they are run in, in order."""
    found: list[slice] = []
    for place, ids in enumerate(inputs):
        begins = place == 0 or len(ids) > LONG or len(inputs[place - 1]) > LONG
        if begins or place - found[-1].start == TOGETHER:
            found.append(slice(place, place + 1))
        else:
            found[-1] = slice(found[-1].start, place + 1)
    return found


def load(spec: EncoderSpec) -> ReferenceAnswers | None:
    """None: there are none for this task."""
    if spec.answers is None:
        return None
    with np.load(spec.answers) as kept:
        ends = list(itertools.accumulate(kept["lengths"].tolist()))[:-1]
        types = np.split(kept["types"], ends) if "types" in kept else None
        judged = int(kept["judged"])
        return ReferenceAnswers(np.split(kept["ids"], ends), types, kept["answers"], judged)


def save(file: Path, answers: ReferenceAnswers) -> None:
    kept: dict[str, Any] = {
        "ids": np.concatenate(answers.inputs),
        "lengths": np.array([len(ids) for ids in answers.inputs]),
        "answers": answers.answers,
        "judged": np.array(answers.judged),
    }
    if answers.types is not None:
        kept["types"] = np.concatenate(answers.types)
    np.savez(file, **kept)


def check(backend: Backend, spec: EncoderSpec, known: ReferenceAnswers) -> float:
    """The distance. Raises Disagrees where it is more than rounding."""
    apart = known.apart(backend, head_of(spec).measure)
    if not apart <= CLOSE:
        raise Disagrees(
            f"backend {backend.name} in {backend.dtype} does not give the reference library's"
            f" answers: {apart:.2g} apart, where {CLOSE:g} is allowed"
        )
    return apart
