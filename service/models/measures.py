"""How far the answers of one backend are from another's, by a measure that fits the task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]  # (n, width)

Answers = Rows | list[Rows]
"""Of a batch, in order: a row for each input; or, where an answer grows with its input, a matrix
for each, of one row a token."""


def stacked(answers: Answers) -> Rows:
    """All rows one below the other, as a Measure compares them."""
    return np.concatenate(answers) if isinstance(answers, list) else answers


class Measure(Protocol):
    name: str  # in the log and in /info

    def agreement(self, answers: Rows, reference: Rows) -> float:
        """Of the worst row; 1: they are the same. NaN where an answer is not finite."""

    def floor(self, dtype: str, min_cosine: float | None) -> float | None:
        """The least agreement with float32 that a dtype must keep; None: float32 itself."""

    def distance(self, one: Rows, other: Rows) -> float:
        """The largest difference of any number, on a scale where answers are about 1."""


class Cosine:
    """Of vectors, which are compared by their direction."""

    name = "cosine"
    floors: Mapping[str, float] = {"bfloat16": 0.999, "float16": 0.999, "int8": 0.98}

    def agreement(self, answers: Rows, reference: Rows) -> float:
        """NaN where a vector has no length, too."""
        lengths = np.linalg.norm(answers, axis=1) * np.linalg.norm(reference, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.min(np.sum(answers * reference, axis=1) / lengths))

    def floor(self, dtype: str, min_cosine: float | None) -> float | None:
        least = self.floors.get(dtype)
        return least if least is None or min_cosine is None else min_cosine

    def distance(self, one: Rows, other: Rows) -> float:
        return float(np.max(np.abs(_directions(one) - _directions(other))))


class Weights(Cosine):
    """Of words: no weight is below 0, and a text may have none at all."""

    def agreement(self, answers: Rows, reference: Rows) -> float:
        return super().agreement(*_with_direction(answers, reference))

    def distance(self, one: Rows, other: Rows) -> float:
        return super().distance(*_with_direction(one, other))


class Directions(Cosine):
    """Of vectors of length 1, each followed by the length that it had. A length that is off by 1 %
    counts as a direction that is off by 1 % of it: 2 st / (s² + t²) of two lengths is what the
    cosine is of two directions."""

    def agreement(self, answers: Rows, reference: Rows) -> float:
        s, t = answers[:, -1].astype(np.float64), reference[:, -1].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            lengths = float(np.min(2 / (s / t + t / s)))
        return float(np.minimum(super().agreement(answers[:, :-1], reference[:, :-1]), lengths))

    def distance(self, one: Rows, other: Rows) -> float:
        """Relative, of lengths."""
        s, t = one[:, -1], other[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            lengths = np.max(np.abs(s - t) / np.maximum(s, t))
        return float(np.maximum(np.max(np.abs(one[:, :-1] - other[:, :-1])), lengths))


class Logits:
    """Of scores before softmax or sigmoid: a bound on their difference, and the same order.

    1 less the largest difference, and less the largest gap of the reference that is in the other
    order: among the labels of a text, or among texts where there is one label. Both relative to
    the reference's largest logit, if that is more than 1.
    """

    name = "agreement"
    floors: Mapping[str, float] = {"bfloat16": 0.95, "float16": 0.99, "int8": 0.9}

    def agreement(self, answers: Rows, reference: Rows) -> float:
        scale = max(1.0, float(np.abs(reference).max()))
        rows = (answers, reference) if reference.shape[1] > 1 else (answers.T, reference.T)
        gaps = [each[:, :, None] - each[:, None, :] for each in rows]
        inverted = float(np.where(gaps[0] < 0, gaps[1], 0.0).max())
        return 1.0 - max(self.distance(answers, reference), inverted / scale)

    def floor(self, dtype: str, min_cosine: float | None) -> float | None:
        return self.floors.get(dtype)  # a cosine says nothing of logits

    def distance(self, one: Rows, other: Rows) -> float:
        return float(np.abs(one - other).max() / max(1.0, float(np.abs(other).max())))


def _with_direction(*both: Rows) -> list[Rows]:
    """With a column more, which is 1 where the rest is 0: one row of zeros is like another."""
    return [np.column_stack([each, (each == 0.0).all(axis=1).astype(np.float32)]) for each in both]


def _directions(vectors: Rows) -> Rows:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
