"""Text classification: a text or a pair of texts in, a score for each label out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from batcher import RunnerFailed
from service.errors import InputError
from service.repository.architecture import Activation
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Options
from service.tasks.text_inputs import (
    TextPreprocessor,
    are_heavy,
    check_count,
    malformed,
)

TextOrPair = str | tuple[str, str]
Scores = NDArray[np.float32]

SHAPES = "a text, a pair of texts, or a list of lists of one text or two"


class PairPreprocessor(TextPreprocessor, Protocol):
    def prepare_pair(
        self, first: str, second: str, options: Options = DEFAULT_OPTIONS
    ) -> ModelInput:
        """The longer of the two is cut first. Raises InputError."""


class Classify:
    name: ClassVar[str] = "classify"

    def __init__(
        self,
        preprocessor: PairPreprocessor,
        labels: Sequence[str],
        activation: Activation,
    ) -> None:
        self.labels = tuple(labels)
        self._preprocessor = preprocessor
        self._activation = activation

    def preprocess(self, one: TextOrPair, options: Options) -> ModelInput:
        if isinstance(one, str):
            return self._preprocessor.prepare(one, options)
        return self._preprocessor.prepare_pair(*one, options)

    def is_heavy(self, inputs: Sequence[TextOrPair]) -> bool:
        parts = [part for one in inputs for part in ((one,) if isinstance(one, str) else one)]
        return are_heavy(self._preprocessor, parts)

    def result(self, value: object) -> Scores:
        """The logits, one for each label."""
        logits = np.asarray(value)
        if logits.shape != (len(self.labels),) or logits.dtype.kind != "f":
            raise RunnerFailed(
                f"the runner answered {logits.dtype} of shape {logits.shape}, not a logit for each"
                f" of {len(self.labels)} labels"
            )
        return logits.astype(np.float32, copy=False)

    def scores(self, logits: Scores, activation: Activation | None = None) -> Scores:
        """From 0 to 1, unless the activation is none; those of softmax add up to 1. `activation`:
        instead of the model's own."""
        wanted = activation or self._activation
        if wanted == "none":
            return logits
        x = logits.astype(np.float64)
        if wanted == "sigmoid":
            scores = 1 / (1 + np.exp(-np.clip(x, -700, 700)))  # past that float64 has no exp
        else:
            powers = np.exp(x - x.max())
            scores = powers / powers.sum()
        return scores.astype(np.float32)


def ranked(labels: Sequence[str], scores: Scores) -> list[dict[str, object]]:
    """Highest first. Of equal ones the later label is first, as text-embeddings-inference sorts."""
    order = np.argsort(scores, kind="stable")[::-1]
    return [{"label": labels[place], "score": scores[place]} for place in order]


def characters(inputs: Sequence[TextOrPair]) -> int:
    """Of all texts."""
    return sum(len(one) if isinstance(one, str) else sum(map(len, one)) for one in inputs)


def parse(value: object, field: str, limit: int) -> tuple[list[TextOrPair], bool]:
    """The inputs, and whether they are a batch. `["a", "b"]` is one pair. Raises InputError."""
    if isinstance(value, str):
        return [value], False
    if not isinstance(value, list):
        raise malformed(field, SHAPES, value)
    if not value:
        raise InputError("is empty; at least one is needed", field=field, kind="empty")
    if not isinstance(value[0], list):
        return [_text_or_pair(value, field)], False
    check_count(len(value), field, limit)
    return [_text_or_pair(one, f"{field}[{place}]") for place, one in enumerate(value)], True


def _text_or_pair(value: object, field: str) -> TextOrPair:
    if not isinstance(value, list):
        raise malformed(field, "a list of one text or two", value)
    for part in value:
        if not isinstance(part, str):
            raise malformed(field, "a list of one text or two", part)
    if not 1 <= len(value) <= 2:
        raise InputError(f"holds {len(value)} texts; one or a pair is one input", field=field)
    return value[0] if len(value) == 1 else (value[0], value[1])
