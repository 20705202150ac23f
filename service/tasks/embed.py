"""Embeddings: texts or token ids in, one vector each out; and what callers want of a vector."""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from batcher import RunnerFailed
from service.errors import InputError, WrongTask
from service.tasks.input_errors import NotPositive, TooManyDimensions
from service.tasks.protocol import ModelInput, Options
from service.tasks.text_inputs import TextInput, TextPreprocessor, are_heavy, prepare_ids

Vector = NDArray[np.float32]

LARGE = 16_384  # numbers; writing that many as text takes about half a millisecond


Normalization = Literal["model", "service", "never"]
"""What brings vectors to length 1. `model`: the worker, which adds the length that each had, see
heads.py. `service`: this task, those of a user's own runner. `never`: they are as they come."""


class Embed:
    name: ClassVar[str] = "embed"

    def __init__(
        self,
        preprocessor: TextPreprocessor,
        normalization: Normalization = "never",
        *,
        sizes: Sequence[int] = (),
        checks: bool = False,
        dimension: int | None = None,
        wrong_task: str | None = None,
    ) -> None:
        """`sizes`: what the model was trained to have its vectors cut to; empty: any size.

        The rest is for a runner of the user's own. `checks`: nothing has looked at its vectors yet.
        `dimension`: the length that it stated. `wrong_task`: it may be for something else; the text
        for callers where it answers no vector."""
        self.preprocessor = preprocessor
        self.normalization = normalization
        self.sizes = tuple(sorted(sizes))
        self._checks = checks
        self._dimension = dimension
        self._wrong_task = wrong_task

    def preprocess(self, one: TextInput, options: Options) -> ModelInput:
        if isinstance(one, str):
            return self.preprocessor.prepare(one, options)
        return prepare_ids(self.preprocessor, one, options)

    def is_heavy(self, inputs: Sequence[TextInput]) -> bool:
        if len(inputs) == 1 and isinstance(inputs[0], str):
            return len(inputs[0]) > self.preprocessor.long_text
        return are_heavy(self.preprocessor, inputs)

    def result(self, value: object) -> Vector:
        """Of length 1, but for a model that is never normalised."""
        if self.normalization == "model":
            return value[:-1]  # type: ignore[index, no-any-return]  # an array of our own worker's
        vector = self._checked(value)
        return scale(vector) if self.normalization == "service" else vector

    def unscaled(self, value: object) -> Vector:
        """Of the length that the model gave it."""
        if self.normalization == "model":
            return value[:-1] * value[-1]  # type: ignore[index, no-any-return]  # as above
        return self._checked(value)

    def _checked(self, value: object) -> Vector:
        if (
            type(value) is np.ndarray
            and value.dtype == np.float32
            and value.ndim == 1
            and not self._checks
        ):
            return value
        vector = _vector_of(value)
        if vector is None:
            if self._wrong_task is not None:
                raise WrongTask(self._wrong_task)
            raise RunnerFailed(f"the runner answered {type(value).__name__}, which is not a vector")
        if self._dimension not in (None, len(vector)):
            raise RunnerFailed(
                f"the runner answered a vector of {len(vector)} numbers; it stated"
                f" {self._dimension} as it started"
            )
        if not np.isfinite(vector).all():
            raise RunnerFailed("the runner answered a vector that is not finite (NaN or infinity)")
        return vector

    def check_dimensions(self, wanted: int | None, known: int | None) -> None:
        """`known`: of the model's vectors, as far as that is known. Raises InputError."""
        if wanted is None:
            return
        if wanted < 1:
            raise NotPositive("should be positive", field="dimensions")
        if known is None:
            return
        if wanted > known:
            raise TooManyDimensions(wanted, known)
        if self.sizes and wanted not in (*self.sizes, known):
            sizes = ", ".join(map(str, self.sizes))
            rule = f"{wanted} is not among those that the model was trained for: {sizes}"
            raise InputError(rule, field="dimensions", kind="invalid_request")

    def shorten(
        self, vectors: list[Vector], dimensions: int | None, *, normalize: bool = True
    ) -> list[Vector]:
        """The first `dimensions` numbers of each; `normalize`: brought to length 1. Raises
        InputError."""
        if dimensions is None:
            return vectors
        # A user's own runner had not told its dimension before.
        self.check_dimensions(dimensions, len(vectors[0]))
        cut = [vector[:dimensions] for vector in vectors]
        return [scale(vector) for vector in cut] if normalize else cut


class Unscaled:
    """The same task for callers who want vectors of the length that the model gave them."""

    name: ClassVar[str] = Embed.name

    def __init__(self, embed: Embed) -> None:
        self.preprocess = embed.preprocess
        self.is_heavy = embed.is_heavy
        self.result = embed.unscaled


def _vector_of(value: object) -> Vector | None:
    """None: it is not a list of numbers, or it is empty."""
    try:
        array = np.asarray(value)
    except ValueError:  # of lists of several lengths
        return None
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu":
        return None
    with np.errstate(over="ignore"):  # infinite, then
        return array.astype(np.float32, copy=False)


def scale(vector: Vector) -> Vector:
    """To length 1; a vector of zeros stays one."""
    wide = vector.astype(np.float64)  # in which no square of a float32 is too large or too small
    return (wide / (np.linalg.norm(wide) or 1.0)).astype(np.float32)


def as_base64(vector: Vector) -> str:
    """Of its numbers as little-endian float32."""
    return b2a_base64(vector.astype("<f4", copy=False).tobytes(), newline=False).decode("ascii")


async def write_large(vectors: Sequence[Vector], of: Callable[[int, Vector], object]) -> bytes:
    """A JSON list of what `of` makes of each place and vector. In pieces, between which the event
    loop does what else there is: orjson keeps the interpreter lock, so in a thread of its own it
    would stop the loop just the same, and for as long as all of it takes."""
    step = max(1, LARGE // max(1, len(vectors[0])))
    pieces = []
    for start in range(0, len(vectors), step):
        if start:
            await asyncio.sleep(0)
        objects = [
            of(place, each) for place, each in enumerate(vectors[start : start + step], start)
        ]
        pieces.append(orjson.dumps(objects, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
    return b"[" + b",".join(pieces) + b"]"
