"""PyTorch on a CPU without padding, for the models that Bert knows: every linear layer sees the
tokens of a whole batch at once, attention one sequence at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from service.models.backends import Answers, Ids, Rows, Tokens, Types
from service.models.backends.torch.bert import Attend, Bert
from service.models.backends.torch.eager import TorchBackend, within_memory
from service.models.heads import Head, Reduce, Texts, TokenHead, head_of, vector_head_of
from service.repository.spec import EncoderSpec, Pooling


class PackedBackend:
    """Its answers are those of the eager backend, which it takes the weights from."""

    name = "torch"

    def __init__(self, bert: Bert, spec: EncoderSpec, eager: TorchBackend) -> None:
        self._bert: Bert | None = bert
        head = head_of(spec)
        self._reduce: Reduce | None = _reducing(head, eager.model, spec)
        self._per_token = isinstance(head, TokenHead) and head.per_token
        self.dtype, self.versions = eager.dtype, f"{eager.versions}, packed"
        self.blocks = eager.blocks  # in float32 only without packing
        self._facts = {**eager.facts(), "padding_free": True}

    def facts(self) -> Mapping[str, object]:
        """`padding_free`: a batch takes what its useful tokens take."""
        return self._facts

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        return within_memory(lambda: self._forward(pack(sequences, types)), len(sequences))

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        return within_memory(lambda: self._with_tokens(sequences, wanted), len(sequences))

    def close(self) -> None:
        self._bert = self._reduce = None

    def _forward(self, packed: Pack) -> Answers:
        with torch.inference_mode():
            return self._answers(self._states(packed), packed)

    def _with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        packed = pack(sequences)
        with torch.inference_mode():
            hidden = self._states(packed)
            answers, states = self._answers(hidden, packed), hidden.float().numpy()
        return answers, own_tokens(states, packed, wanted)

    def _states(self, packed: Pack) -> Tensor:
        """The last hidden state of each token, (tokens, dimension)."""
        assert self._bert is not None, "forward after close: this is a bug"
        places = packed.positions
        if self._bert.offset is not None:
            places = positions_after(packed.ids, packed.groups, self._bert.offset)
        ids, at, attend = torch.from_numpy(packed.ids), torch.from_numpy(places), _attend(packed)
        types = None if packed.types is None else torch.from_numpy(packed.types)
        return self._bert(ids, at, attend, types)

    def _answers(self, hidden: Tensor, packed: Pack) -> Answers:
        assert self._reduce is not None, "the head is closed with the body: this is a bug"
        found = self._reduce(hidden, packed.groups).numpy()
        if self._per_token:
            return own_tokens(found, packed, range(len(packed.order)))
        answers = np.empty(found.shape, dtype=np.float32)
        answers[packed.order] = found
        return answers


def _reducing(head: Head, model: Any, spec: EncoderSpec) -> Reduce:
    if isinstance(head, TokenHead):
        return head.reduce(model, spec)
    pooling, finish = vector_head_of(spec).pooling(spec), vector_head_of(spec).finish(model, spec)
    return lambda hidden, groups: finish(pool_packed(hidden, groups, pooling))


def own_tokens(rows: Rows, packed: Pack, places: Sequence[int]) -> list[Rows]:
    """Of the texts at these places, the rows of their tokens; each in memory of its own."""
    spans = np.empty((len(packed.order), 2), dtype=np.intp)
    spans[packed.order] = [
        (start, start + group.length) for group in packed.groups for start in group.starts
    ]
    return [rows[slice(*spans[place])].copy() for place in places]


def _attend(packed: Pack) -> Attend:
    """One call for all sequences of a length: each attends to itself alone."""

    def attend(qkv: Tensor, heads: int) -> Tensor:
        parts = []
        for group in packed.groups:
            split = qkv[group.tokens].view(group.size, group.length, 3, heads, -1)
            query, key, value = split.permute(2, 0, 3, 1, 4)  # each (size, heads, length, width)
            part = functional.scaled_dot_product_attention(query, key, value)
            parts.append(part.transpose(1, 2).reshape(group.size * group.length, -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return attend


def pool_packed(hidden: Tensor, groups: Sequence[Texts], pooling: Pooling) -> Tensor:
    """(tokens, dim) to float32 (sequences, dim), in the order of the pack."""
    pooled = []
    for group in groups:
        each = hidden[group.tokens].view(group.size, group.length, -1)
        if pooling == "mean":
            pooled.append(each.float().mean(dim=1))
        else:
            pooled.append(each[:, 0 if pooling == "cls" else -1].float())
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled)


class Group(NamedTuple):
    """Sequences of one length, side by side: `size` x `length` tokens from `start` on."""

    start: int
    size: int
    length: int

    @property
    def starts(self) -> range:
        """Of each of its sequences."""
        return range(self.start, self.start + self.size * self.length, self.length)

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
