"""A model of the user's own: any JSON value, tensor or file in, any answer out. What they mean is
the model's, but for the tensors that it declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from batcher import Request, Tensor
from service.tasks.packed import pack_request, unpack_response
from service.tasks.plain_text import LONG_WORDS
from service.tasks.protocol import ModelInput, Options
from service.tasks.tensors import count_of, row_from

_MANY = 10_000  # numbers in lists; to make an array of them takes about 1 ms


@dataclass(frozen=True, slots=True)
class Predict:
    name: ClassVar[str] = "predict"
    inputs: tuple[Tensor, ...] = ()  # that the model declares; none: any JSON value
    outputs: tuple[Tensor, ...] = ()
    takes_bodies: bool = False  # that are not JSON: it has a `preprocess`, which reads them

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Predict:
        """By what its worker has reported."""
        inputs, outputs = (
            tuple(Tensor(each[0], each[1], tuple(each[2])) for each in facts.get(name, ()))
            for name in ("inputs", "outputs")
        )
        return cls(inputs, outputs, facts.get("preprocesses") is True)

    def preprocess(self, one: object, options: Options) -> ModelInput:
        """Of tensors a Row: as it came from a protocol of tensors, or made of JSON. All else as it
        came. A text costs its words, as on every other route; all else costs 1."""
        if isinstance(one, Request):
            return ModelInput(pack_request(one), 1)
        if self.inputs:
            return ModelInput(row_from(one, self.inputs), 1)
        return ModelInput(one, (len(one.split()) or 1) if isinstance(one, str) else 1)

    def is_heavy(self, inputs: Sequence[object]) -> bool:
        if self.inputs:
            return sum(map(count_of, inputs)) > _MANY
        return sum(len(one) for one in inputs if isinstance(one, str)) > LONG_WORDS

    def result(self, value: object) -> Any:
        """A Response where the model has answered bytes."""
        return unpack_response(value)
