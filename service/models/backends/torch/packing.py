"""Sequences of many lengths end to end in one row, with nothing padded. Pure; numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.models.backends import Ids, Types


class Group(NamedTuple):
    """Sequences of one length, side by side: `size` x `length` tokens from `start` on."""

    start: int
    size: int
    length: int

    @property
    def tokens(self) -> slice:
        return slice(self.start, self.start + self.size * self.length)


class Pack(NamedTuple):
    ids: Ids  # (tokens,): the sequences, shortest first
    positions: Ids  # (tokens,): the place of each token in its sequence, from 0
    groups: list[Group]
    order: NDArray[np.intp]  # which of the caller's sequences comes first, second …
    types: Ids | None = None  # (tokens,); None: 0 all through


def pack(sequences: Sequence[Ids], types: Types = None) -> Pack:
    """Each sequence holds a token at least."""
    lengths = np.fromiter(map(len, sequences), dtype=np.intp, count=len(sequences))
    order = np.argsort(lengths, kind="stable")
    groups, start = list[Group](), 0
    for length, count in zip(*np.unique(lengths, return_counts=True), strict=True):
        groups.append(Group(start, int(count), int(length)))
        start += int(count * length)
    longest = np.arange(groups[-1].length, dtype=np.int32)
    return Pack(
        np.concatenate([sequences[i] for i in order]),
        np.concatenate([longest[: len(sequences[i])] for i in order]),
        groups,
        order,
        None if types is None else np.concatenate([types[i] for i in order]),
    )


def positions_after(ids: Ids, groups: Sequence[Group], pad_id: int) -> Ids:
    """As RoBERTa counts: from pad_id + 1, past no token that is the padding id itself, which stays
    at pad_id (transformers, create_position_ids_from_input_ids)."""
    positions = np.empty_like(ids)
    for group in groups:
        real = ids[group.tokens].reshape(group.size, group.length) != pad_id
        counted = np.cumsum(real, axis=1, dtype=np.int32) * real + pad_id
        positions[group.tokens] = counted.reshape(-1)
    return positions
