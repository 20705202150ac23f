"""What the right answer to a text is: computed for the simulated runner, asked beforehand else."""

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from loadtests.drivers.history import Vector
from loadtests.drivers.workloads import built_in_sentences, texts
from service.models.simulated import answers
from service.tasks.plain_text import SIMULATED_MAX_LENGTH

# Texts of a real model: each is asked once, alone, before anything is injected. So many that no two
# alike are in flight, not even where most are refused: equal ones would share a row.
POOL = 512


class Reference(Protocol):
    tolerance: float

    def answer(self, text: str) -> Vector:
        """The vector that a 200 must hold."""

    def texts(self, about: str) -> Iterator[str]:
        """For ever, texts whose answer is known."""


class Computed:
    """No two texts are equal: an answer to one is nobody else's."""

    tolerance = 1e-6

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def answer(self, text: str) -> Vector:
        words = text.split()
        if len(words) > SIMULATED_MAX_LENGTH:
            text = " ".join(words[:SIMULATED_MAX_LENGTH])
        return np.asarray(answers([text])[0], dtype=np.float64)

    def texts(self, about: str) -> Iterator[str]:
        for number in self._numbers:
            yield f"{about} number {number} of this run"


class Observed:
    """Of a real model, by asking for each text alone."""

    tolerance = 1e-3

    def __init__(self, ask: Callable[[str], Vector]) -> None:
        pool = texts("short", built_in_sentences(), seed=1, count=POOL)
        self._answers = {text: ask(text) for text in pool}
        self._endless = itertools.cycle(pool)

    def answer(self, text: str) -> Vector:
        return self._answers[text]

    def texts(self, about: str) -> Iterator[str]:
        return self._endless
