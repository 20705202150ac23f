"""A model of the user's own: any JSON value in, any answer out. What it means is the model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from service.tasks.plain_text import LONG_WORDS
from service.tasks.protocol import ModelInput, Options


class Predict:
    name: ClassVar[str] = "predict"

    def preprocess(self, one: object, options: Options) -> ModelInput:
        """As it came. A text costs its words, as on every other route; all else costs 1."""
        return ModelInput(one, (len(one.split()) or 1) if isinstance(one, str) else 1)

    def is_heavy(self, inputs: Sequence[object]) -> bool:
        return sum(len(one) for one in inputs if isinstance(one, str)) > LONG_WORDS

    def result(self, value: object) -> object:
        return value
