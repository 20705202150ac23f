"""PyTorch on a CUDA device, for the models that Bert knows: batches are queued behind each other,
small ones as graphs of kernels (cuda_graphs.py). Nothing here needs a CUDA device but its Streams.

Not yet verified on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from service.models.backends import Answers, Ids, Tokens, Types
from service.models.backends.torch.eager import TorchBackend, within_memory
from service.models.backends.torch.graph_shapes import Shape, fit
from service.models.backends.torch.padded import Encode
from service.models.backends.torch.transfer import (
    Compute,
    Streams,
    TransferBuffers,
    longest,
    plan_layout,
    taken_apart,
)
from service.models.heads import vector_head_of
from service.repository.spec import EncoderSpec


class CudaBackend:
    """`launch` queues a batch and returns; `forward` waits for it, too."""

    name = "torch"

    def __init__(
        self, encode: Encode, spec: EncoderSpec, streams: Streams, eager: TorchBackend
    ) -> None:
        self._encode: Encode | None = encode
        self._spec = spec
        self._device = streams.device
        width = vector_head_of(spec).width(spec)
        self._pool: TransferBuffers | None = TransferBuffers(streams, width)
        self.dtype, self.versions = eager.dtype, f"{eager.versions}, queued"
        self._facts = eager.facts()
        self.graphs: dict[Shape, Compute] = {}  # as far as they pay; the rest runs without

    def facts(self) -> Mapping[str, object]:
        return {**self._facts, "cuda_graphs": len(self.graphs)}

    def launch(self, sequences: Sequence[Ids], types: Types = None) -> Callable[[], Answers]:
        """Raises MemoryError. One thread launches, another may collect; in the order launched."""
        assert types is None, "a model whose pairs have types runs as it comes: this is a bug"
        length = longest(sequences)
        shape = fit(self.graphs, len(sequences), length)
        compute = self.plain if shape is None else self.graphs[shape]
        return within_memory(
            lambda: self._launch(sequences, shape or Shape(len(sequences), length), compute),
            len(sequences),
        )

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        return self.launch(sequences, types)()

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        """Waits for it; batches that were launched before run beside it."""
        return within_memory(lambda: self._with_tokens(sequences, wanted), len(sequences))

    def plain(self, numbers: Tensor, shape: Shape) -> Tensor:
        """Without a graph."""
        assert self._encode is not None, "forward after close: this is a bug"
        return self._encode(*taken_apart(numbers, shape))

    def close(self) -> None:
        self.graphs, self._pool, self._encode = {}, None, None
        torch.cuda.empty_cache()  # nothing where CUDA was not used

    def _with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        assert self._encode is not None, "forward after close: this is a bug"
        shape, places = Shape(len(sequences), longest(sequences)), list(wanted)
        numbers = np.empty(shape.size + shape.tokens, dtype=np.int32)
        plan_layout(sequences, shape, self._spec.pad_id, numbers)
        with torch.inference_mode():
            given = torch.from_numpy(numbers).to(self._device)
            answers, hidden = self._encode.with_states(*taken_apart(given, shape))
            states = hidden[places].float().cpu().numpy()
            found = answers.cpu().numpy()
        return found, [
            each[: len(sequences[place])].copy() for each, place in zip(states, places, strict=True)
        ]

    def _launch(
        self, sequences: Sequence[Ids], shape: Shape, compute: Compute
    ) -> Callable[[], Answers]:
        assert self._pool is not None, "forward after close: this is a bug"
        with torch.inference_mode():
            return self._pool.launch(sequences, shape, self._spec.pad_id, compute)
