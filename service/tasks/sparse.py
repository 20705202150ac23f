"""Sparse embeddings (SPLADE): texts or token ids in, the weights of words out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from batcher import RunnerFailed
from service.tasks.protocol import ModelInput, Options
from service.tasks.text_inputs import TextInput, TextPreprocessor, are_heavy, prepare_ids

_AT_ONCE = 2048  # weights; writing that many as text takes about half a millisecond


class SparseVector(NamedTuple):
    """Of the words of the vocabulary that have a weight, ascending; all others weigh 0."""

    indices: NDArray[np.int32]
    weights: NDArray[np.float32]


class Sparse:
    name: ClassVar[str] = "sparse"

    def __init__(self, preprocessor: TextPreprocessor, vocabulary: int) -> None:
        self.preprocessor = preprocessor
        self.vocabulary = vocabulary

    def preprocess(self, one: TextInput, options: Options) -> ModelInput:
        if isinstance(one, str):
            return self.preprocessor.prepare(one, options)
        return prepare_ids(self.preprocessor, one, options)

    def is_heavy(self, inputs: Sequence[TextInput]) -> bool:
        return are_heavy(self.preprocessor, inputs)

    def result(self, value: object) -> SparseVector:
        if not (isinstance(value, tuple) and len(value) == 2):
            raise RunnerFailed(f"the runner answered {type(value).__name__}, not words and weights")
        indices, weights = map(np.asarray, value)
        if (
            (indices.dtype.kind, weights.dtype.kind) != ("i", "f")
            or indices.ndim != 1
            or indices.shape != weights.shape
        ):
            raise RunnerFailed(
                f"the runner answered {indices.dtype} of shape {indices.shape} and"
                f" {weights.dtype} of shape {weights.shape}, not a weight for each word"
            )
        if len(indices) and not (
            indices[0] >= 0 and indices[-1] < self.vocabulary and (np.diff(indices) > 0).all()
        ):
            raise RunnerFailed("the runner answered words that are not ascending places")
        return SparseVector(
            indices.astype(np.int32, copy=False), weights.astype(np.float32, copy=False)
        )


async def write(vectors: Sequence[SparseVector]) -> bytes:
    """`[[{"index": 7, "value": 0.5}, …], …]`. In pieces, between which the event loop does what
    else there is: a model that was not trained to be sparse has a weight for most words."""
    rows, written = [], 0
    for indices, weights in vectors:
        pieces = []
        for start in range(0, len(indices), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            words = [
                {"index": index, "value": weight}
                for index, weight in zip(indices[part].tolist(), weights[part], strict=True)
            ]
            pieces.append(orjson.dumps(words, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
            written += len(words)
            if written >= _AT_ONCE:
                written = 0
                await asyncio.sleep(0)
        rows.append(b"[" + b",".join(pieces) + b"]")
    return b"[" + b",".join(rows) + b"]"
