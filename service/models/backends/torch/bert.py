"""BERT and RoBERTa in our own words: the linear layers see whatever tokens they are given, whoever
calls says how these attend to each other (Vaswani et al. 2017; Devlin et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Of those that this can run, by how they count positions: from 0, or from behind the padding id.
_FROM_ZERO = frozenset(("bert",))
_FROM_PADDING = frozenset(("roberta", "xlm-roberta", "camembert"))

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
            config.pad_token_id if config.model_type in _FROM_PADDING else None
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
    if config.model_type not in _FROM_ZERO | _FROM_PADDING:
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


class Linear:
    """x @ weight.T + bias, then what `add` or `gelu` say. Not to be trained.

    On a CPU, oneDNN's matrix product with the weight in oneDNN's own layout, which also adds or
    applies the activation as it writes: 1.3 to 1.6 times the whole encoder's speed for one sequence
    on two threads (1.1 to 1.2 on one), less the larger the batch. MKL's packed product gains
    nothing over the plain one.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._bias = bias.contiguous()
        self._weight = weight.contiguous()
        self.is_packed = can_pack(weight)
        if self.is_packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        if self.is_packed:
            return _onednn(x, self._weight, self._bias, "none", [], "")
        return functional.linear(x, self._weight, self._bias)

    def gelu(self, x: Tensor) -> Tensor:
        """The exact one, by the error function."""
        if self.is_packed:
            return _onednn(x, self._weight, self._bias, "gelu", [], "none")
        return functional.gelu(functional.linear(x, self._weight, self._bias))

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        if self.is_packed:
            return _onednn_add(x, to, self._weight, self._bias, "add")
        return functional.linear(x, self._weight, self._bias) + to


def can_pack(weight: Tensor) -> bool:
    """Whether this build of torch has the operators (the compiler's own) for such a weight here."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's
    if weight.device.type != "cpu" or not has_onednn:
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")


def _onednn(
    x: Tensor, weight: Tensor, bias: Tensor, act: str, scalars: list[float], how: str
) -> Tensor:
    done: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, act, scalars, how)
    return done


def _onednn_add(x: Tensor, to: Tensor, weight: Tensor, bias: Tensor, how: str) -> Tensor:
    done: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, to, weight, bias, how)
    return done
