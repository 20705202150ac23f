"""From inputs of many lengths to one rectangle, and from its answers to a row each. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from service.models.measures import Answers

Matrix = NDArray[np.int64]
Allocate = Callable[[tuple[int, int]], Matrix]

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"  # as transformers names them


class Padded(NamedTuple):
    """All of shape (inputs, longest), int64; the mask is 1 where there is a token."""

    ids: Matrix
    mask: Matrix
    is_full: bool  # every input is as long as the longest: nothing is masked
    types: Matrix | None = None  # of the tokens; None: 0 all through

    def named(self, inputs: Sequence[str]) -> dict[str, Matrix]:
        """What a graph with these inputs is given."""
        given = {IDS: self.ids, MASK: self.mask}
        if TYPES in inputs:
            given[TYPES] = np.zeros_like(self.ids) if self.types is None else self.types
        return given


def plain(shape: tuple[int, int]) -> Matrix:
    return np.empty(shape, dtype=np.int64)


def pad(
    sequences: Sequence[NDArray[np.int32]],
    pad_id: int,
    allocate: Allocate = plain,
    types: Sequence[NDArray[np.int32]] | None = None,
) -> Padded:
    """Pads on the right to the longest, which must hold a token. Each matrix is allocated once, in
    the caller's memory if it brings its own."""
    lengths = [len(ids) for ids in sequences]
    longest = max(lengths)
    shape = (len(sequences), longest)
    ids, mask = allocate(shape), allocate(shape)
    for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        ids[row, :length] = sequence
        ids[row, length:] = pad_id
        mask[row, :length] = 1
        mask[row, length:] = 0
    padded = Padded(ids, mask, is_full=min(lengths) == longest)
    if types is None:
        return padded
    matrix = allocate(shape)
    for row, (own, length) in enumerate(zip(types, lengths, strict=True)):
        matrix[row, :length] = own
        matrix[row, length:] = 0
    return padded._replace(types=matrix)


def own_rows(answers: NDArray[np.float32], mask: Matrix) -> list[NDArray[np.float32]]:
    """(inputs, longest, width) without what stands where nothing was but padding; each in memory of
    its own."""
    lengths = mask.sum(axis=1).tolist()
    return [each[:length].copy() for each, length in zip(answers, lengths, strict=True)]


class NotFinite(ValueError):
    """The model's answer to this input holds a NaN or an infinity."""


def is_finite(answers: Answers) -> bool:
    if isinstance(answers, list):
        return all(np.isfinite(each).all() for each in answers)
    return bool(np.isfinite(answers).all())


def check_finite(answers: Answers) -> Sequence[Any]:
    """The answers themselves, or a list of them in which each bad one is a NotFinite."""
    if is_finite(answers):
        return cast(Sequence[Any], answers)
    return [
        each
        if np.isfinite(each).all()
        else NotFinite("the model's answer to this input is not finite (NaN or infinity)")
        for each in answers
    ]
