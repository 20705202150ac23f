"""BERT and RoBERTa over packed sequences: every linear layer sees the tokens of a whole batch at
once and no padding, attention one sequence at a time (Vaswani et al. 2017; Devlin et al. 2019).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from service.models.backends.packing import Group, Pack, positions_after
from service.models.backends.torch_linear import Linear

PLAIN_POSITIONS = frozenset(("bert",))
OFFSET_POSITIONS = frozenset(("roberta", "xlm-roberta", "camembert"))


class Norm(NamedTuple):
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Layer(NamedTuple):
    query_key_value: Linear
    attended: Linear
    attended_norm: Norm
    widen: Linear
    narrow: Linear
    norm: Norm


class PackedBert:
    """Made of the weights of a model that transformers has loaded; the large ones are copied."""

    def __init__(self, model: Any) -> None:
        config, embeddings = model.config, model.embeddings
        self._heads: int = config.num_attention_heads
        self._pad_id = config.pad_token_id if config.model_type in OFFSET_POSITIONS else None
        self._words: Tensor = embeddings.word_embeddings.weight
        self._types: Tensor = embeddings.token_type_embeddings.weight[
            0
        ]  # one text: type 0 all over
        self._positions: Tensor = embeddings.position_embeddings.weight
        self._norm = _norm(embeddings.LayerNorm)
        self._layers = [_layer(layer) for layer in model.encoder.layer]

    def __call__(self, pack: Pack) -> Tensor:
        """The last hidden state, (tokens, dimension), in the order of the pack."""
        ids = torch.from_numpy(pack.ids)
        places = pack.positions
        if self._pad_id is not None:
            places = positions_after(pack.ids, pack.groups, self._pad_id)
        x = functional.embedding(ids, self._words) + self._types
        x = self._norm(x + functional.embedding(torch.from_numpy(places), self._positions))
        for layer in self._layers:
            attended = self._attend(layer.query_key_value(x), pack.groups)
            x = layer.attended_norm(layer.attended.add(attended, to=x))
            x = layer.norm(layer.narrow.add(layer.widen.gelu(x), to=x))
        return x

    def _attend(self, qkv: Tensor, groups: list[Group]) -> Tensor:
        """(tokens, 3 x dimension) to (tokens, dimension); a call for each length."""
        parts = []
        for group in groups:
            split = qkv[group.tokens].view(group.size, group.length, 3, self._heads, -1)
            query, key, value = split.permute(2, 0, 3, 1, 4)  # each (size, heads, length, width)
            part = functional.scaled_dot_product_attention(query, key, value)
            parts.append(part.transpose(1, 2).reshape(group.size * group.length, -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def why_not(config: Any) -> str:
    """Why a model of this config cannot be run by PackedBert; empty: it can."""
    if config.model_type not in PLAIN_POSITIONS | OFFSET_POSITIONS:
        return f"a {config.model_type}, not a BERT"
    if config.hidden_act != "gelu":
        return f"its activation is {config.hidden_act}, not gelu"
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        return "its positions are relative"
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return "it is a decoder"
    return ""


def _layer(layer: Any) -> Layer:
    attention, dense = layer.attention.self, layer.attention.output
    three = (attention.query, attention.key, attention.value)
    return Layer(
        Linear(torch.cat([one.weight for one in three]), torch.cat([one.bias for one in three])),
        Linear(dense.dense.weight, dense.dense.bias),
        _norm(dense.LayerNorm),
        Linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias),
        Linear(layer.output.dense.weight, layer.output.dense.bias),
        _norm(layer.output.LayerNorm),
    )


def _norm(norm: Any) -> Norm:
    return Norm(norm.weight, norm.bias, norm.eps)
