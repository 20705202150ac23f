"""Bert over a padded rectangle, as a function of tensors alone: nothing in it asks the device for a
number, so that it can be queued, captured in a CUDA graph, or compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from service.models.backends.torch.bert import Bert
from service.models.heads import Finish, vector_head_of
from service.repository.spec import EncoderSpec, Pooling


class Encode:
    """(n, length) ids, padded on the right, and (n) lengths, none 0, to (n, width) in float32: of
    inputs without token types."""

    def __init__(self, bert: Bert, spec: EncoderSpec, finish: Finish) -> None:
        self._bert = bert
        self._pooling = vector_head_of(spec).pooling(spec)
        self._finish = finish

    def __call__(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.with_states(ids, lengths)[0]

    def with_states(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """And the last hidden states, (n, length, dimension)."""
        size, length = ids.shape
        places = torch.arange(length, device=ids.device)
        mask = places < lengths.unsqueeze(1)  # (n, length)
        seen = mask.view(size, 1, 1, length)

        def attend(qkv: Tensor, heads: int) -> Tensor:
            split = qkv.view(size, length, 3, heads, -1)
            query, key, value = split.permute(2, 0, 3, 1, 4)
            part = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
            return part.transpose(1, 2).reshape(size, length, -1)

        offset = self._bert.offset
        if offset is None:
            hidden = self._bert(ids, places.expand(size, length), attend)
        else:
            real = (ids != offset) & mask
            hidden = self._bert(ids, real.cumsum(dim=1) * real + offset, attend)
        return self._finish(_pool(hidden, mask, lengths, self._pooling)), hidden


def _pool(hidden: Tensor, mask: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, lengths.long() - 1].float()
    weights = mask.float()
    return torch.bmm(weights.unsqueeze(1), hidden.float()).squeeze(1) / weights.sum(1, keepdim=True)
