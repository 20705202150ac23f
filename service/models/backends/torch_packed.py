"""PyTorch on a CPU without padding, for the models that PackedBert knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from service.models.backends import Ids, Vectors
from service.models.backends.packing import Pack, pack
from service.models.backends.torch_bert import PackedBert
from service.models.backends.torch_eager import TorchBackend, within_memory
from service.models.spec import EncoderSpec, Pooling

CLOSE = {"float32": 1e-4, "bfloat16": 0.05}  # what vectors of length 1 may differ by


class PackedBackend:
    """Its answers are those of the eager backend, which it takes the weights from."""

    name = "torch"

    def __init__(self, bert: PackedBert, spec: EncoderSpec, eager: TorchBackend) -> None:
        self._bert: PackedBert | None = bert
        self._spec = spec
        self.dtype, self.versions = eager.dtype, f"{eager.versions}, packed"
        self._facts = {**eager.facts(), "padding_free": True}

    def facts(self) -> Mapping[str, object]:
        """`padding_free`: a batch takes what its useful tokens take."""
        return self._facts

    def forward(self, sequences: Sequence[Ids]) -> Vectors:
        return within_memory(lambda: self._forward(pack(sequences)), len(sequences))

    def close(self) -> None:
        self._bert = None

    def _forward(self, packed: Pack) -> Vectors:
        assert self._bert is not None, "forward after close: this is a bug"
        with torch.inference_mode():
            vectors = pool_packed(self._bert(packed), packed, self._spec.pooling)
            if self._spec.normalize:
                vectors = functional.normalize(vectors, p=2.0, dim=1)
        answers = np.empty(vectors.shape, dtype=np.float32)
        answers[packed.order] = vectors.numpy()
        return answers


def pool_packed(hidden: Tensor, packed: Pack, pooling: Pooling) -> Tensor:
    """(tokens, dim) to float32 (sequences, dim), in the order of the pack."""
    pooled = []
    for group in packed.groups:
        each = hidden[group.tokens].view(group.size, group.length, -1)
        if pooling == "mean":
            pooled.append(each.float().mean(dim=1))
        else:
            pooled.append(each[:, 0 if pooling == "cls" else -1].float())
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled)


def difference(one: PackedBackend, other: TorchBackend, spec: EncoderSpec) -> float:
    """The most that any number differs by in what both make of a few sequences."""
    draw = np.random.default_rng(0)
    lengths = [min(length, spec.max_length) for length in (1, 7, 7, 20)]
    batch = [draw.integers(0, spec.vocab_size, n, dtype=np.int32) for n in lengths]
    first, second = _directions(one.forward(batch)), _directions(other.forward(batch))
    return float(np.max(np.abs(first - second)))


def _directions(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
