"""Zero-shot classification: a text and labels of the caller's own in, the likelihood of each out.
For classifiers that tell whether a text entails another one, as ZeroShotClassificationPipeline of
transformers does it: https://arxiv.org/abs/1909.00161."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from service.errors import InputError
from service.tasks.classify import Classify, PairPreprocessor
from service.tasks.pairs import Shared
from service.tasks.protocol import ModelInput, Options

Likelihoods = NDArray[np.float32]

TEMPLATE = "This example is {}."
_MOST = 250  # characters of a hypothesis for each token of the model's limit


class ZeroShot(Classify):
    name: ClassVar[str] = "zero-shot"

    def __init__(
        self, preprocessor: PairPreprocessor, labels: Sequence[str], entailment: int
    ) -> None:
        """`entailment`: the place of that label."""
        super().__init__(preprocessor, labels, "none")
        self._entailment = entailment
        self._contradiction = -1 if entailment == 0 else 0

    def preprocess(self, one: str | tuple[str, str], options: Options) -> ModelInput:
        """A pair: the text, which is cut, and a hypothesis, which is not."""
        assert isinstance(one, tuple), "a text without a hypothesis: this is a bug"
        return self._preprocessor.prepare_pair(*one, replace(options, only_first=True))

    def pairs(self, text: str, labels: Sequence[str], template: str) -> list[tuple[str, str]]:
        """Raises InputError for the template."""
        limit = _MOST * (self._preprocessor.max_length or 1)
        parts = _parts(template)
        fixed = sum(len(literal) for literal, _ in parts)
        places = sum(is_label for _, is_label in parts)
        for label in labels:
            if fixed + places * len(label) > limit:
                rule = (
                    f"a hypothesis of more than {limit} characters is longer than the model reads"
                )
                raise InputError(rule, field="hypothesis_template")
        shared = Shared(text)
        return [
            (shared, "".join(literal + label * is_label for literal, is_label in parts))
            for label in labels
        ]

    def likelihoods(self, logits: Sequence[NDArray[np.float32]], *, multi: bool) -> Likelihoods:
        """Of each label, from the logits of its pair. `multi`: each by itself, of entailment
        against contradiction; else all together are 1."""
        rows = np.stack(logits).astype(np.float64)
        if multi or len(rows) == 1:
            scores = _softmax(rows[:, [self._contradiction, self._entailment]])[:, 1]
        else:
            scores = _softmax(rows[:, self._entailment])
        return scores.astype(np.float32)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return scores


def _parts(template: str) -> list[tuple[str, bool]]:
    """The literal texts of a format string, and whether the label follows each. Raises InputError:
    only `{}` is taken, since formats may ask for any attribute and any width."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"cannot be read: {error}", field="hypothesis_template") from None
    fields = [field for _, *field in parsed if field[0] is not None]
    if fields != [["", "", None]]:
        rule = "must have one {} for the label, and no other field"
        raise InputError(rule, field="hypothesis_template")
    return [(literal, name is not None) for literal, name, _, _ in parsed]
