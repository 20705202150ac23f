"""BERT and RoBERTa in our own words: the linear layers see whatever tokens they are given, whoever
calls says how these attend to each other (Vaswani et al. 2017; Devlin et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from service.models.backends.torch.linear import Linear

PLAIN_POSITIONS = frozenset(("bert",))
OFFSET_POSITIONS = frozenset(("roberta", "xlm-roberta", "camembert"))

Attend = Callable[[Tensor, int], Tensor]
"""From (…, 3 x dimension), queries, keys and values, and the number of heads, to (…, dimension)."""


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


class Bert:
    """Made of the weights of a model that transformers has loaded; most of them are copied."""

    def __init__(self, model: Any) -> None:
        body = model.base_model  # of a model with a head; else it is the body itself
        config, embeddings = model.config, body.embeddings
        self._heads: int = config.num_attention_heads
        self.dimension: int = config.hidden_size
        # Where positions start behind the padding id, and pass over it: the id; else None.
        self.offset: int | None = (
            config.pad_token_id if config.model_type in OFFSET_POSITIONS else None
        )
        self._words: Tensor = embeddings.word_embeddings.weight
        self._positions: Tensor = embeddings.position_embeddings.weight
        self._types: Tensor = embeddings.token_type_embeddings.weight
        # One text alone is of type 0 all through.
        self._places: Tensor = self._positions + self._types[0]
        self._norm = _norm(embeddings.LayerNorm)
        self._layers = [_layer(layer) for layer in body.encoder.layer]

    def __call__(
        self, ids: Tensor, places: Tensor, attend: Attend, types: Tensor | None = None
    ) -> Tensor:
        """The last hidden state, (…, dimension), of ids, their positions and types, each (…)."""
        x = functional.embedding(ids, self._words)
        if types is None:
            x = x + functional.embedding(places, self._places)
        else:
            x = x + functional.embedding(types, self._types)
            x = x + functional.embedding(places, self._positions)
        x = self._norm(x)
        for layer in self._layers:
            attended = attend(layer.query_key_value(x), self._heads)
            x = layer.attended_norm(layer.attended.add(attended, to=x))
            x = layer.norm(layer.narrow.add(layer.widen.gelu(x), to=x))
        return x


def why_not(config: Any) -> str:
    """Why a model of this config cannot be run by Bert; empty: it can."""
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
