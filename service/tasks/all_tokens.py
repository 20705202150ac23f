"""All-token embeddings: texts or token ids in, a vector for each of their tokens out. Served beside
embed: the same model, the same batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from batcher import RunnerFailed
from service.errors import InputError
from service.tasks.embed import LARGE
from service.tasks.protocol import ModelInput, Options
from service.tasks.text_inputs import TextInput, TextPreprocessor, are_heavy, prepare_ids

States = NDArray[np.float32]

MOST_NUMBERS = 1 << 24  # in one answer: 64 MiB as float32, and three times that as text
FLAG = np.ones(1, dtype=np.bool_)


class AllTokens:
    name: ClassVar[str] = "all-tokens"

    def __init__(self, preprocessor: TextPreprocessor, dimension: int) -> None:
        """`dimension`: of a token's vector, to reckon with how large an answer is."""
        self._preprocessor = preprocessor
        self._dimension = dimension

    def preprocess(self, one: TextInput, options: Options) -> ModelInput:
        if isinstance(one, str):
            ids, cost = self._preprocessor.prepare(one, options)
        else:
            ids, cost = prepare_ids(self._preprocessor, one, options)
        return ModelInput({"input_ids": ids, "all_tokens": FLAG}, cost)

    def is_heavy(self, inputs: Sequence[TextInput]) -> bool:
        return are_heavy(self._preprocessor, inputs)

    def result(self, value: object) -> States:
        """A row for each token, special ones included."""
        states = np.asarray(value)
        if states.ndim != 2 or not states.size or states.dtype.kind != "f":
            raise RunnerFailed(
                f"the runner answered {states.dtype} of shape {states.shape}, not a vector for each"
                " token"
            )
        return states.astype(np.float32, copy=False)


class OneAnswer(AllTokens):
    """The same for one call, whose answer must not be larger than memory allows."""

    def __init__(self, task: AllTokens) -> None:
        super().__init__(task._preprocessor, task._dimension)
        self._left = MOST_NUMBERS

    def preprocess(self, one: TextInput, options: Options) -> ModelInput:
        prepared = super().preprocess(one, options)
        self._left -= prepared.cost * self._dimension
        if self._left < 0:
            raise InputError(
                f"with this one the answer has more than {MOST_NUMBERS} numbers: ask for fewer or"
                " shorter inputs at a time",
                kind="too_many_inputs",
            )
        return prepared


async def write(answers: Sequence[States]) -> bytes:
    """`[[[0.5, …], …], …]`. In pieces, between which the event loop does what else there is."""
    texts, written = [], 0
    for states in answers:
        pieces = []
        step = max(1, LARGE // states.shape[1])
        for start in range(0, len(states), step):
            part = np.ascontiguousarray(states[start : start + step])
            pieces.append(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
            written += part.size
            if written >= LARGE:
                written = 0
                await asyncio.sleep(0)
        texts.append(b"[" + b",".join(pieces) + b"]")
    return b"[" + b",".join(texts) + b"]"
