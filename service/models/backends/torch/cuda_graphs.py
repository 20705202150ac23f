"""CUDA's own streams, and its graphs: the kernels of a batch of one shape, launched as one.

Not yet verified on a GPU.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from torch import Tensor

from service.models.backends import Say
from service.models.backends.torch.cuda import CudaBackend
from service.models.backends.torch.graph_shapes import Shape, capture_all, shapes
from service.models.backends.torch.padded import Encode
from service.models.backends.torch.transfer import Compute, Streams, taken_apart

CAPTURE_SECONDS = 8.0
CAPTURE_BYTES = 1 << 30  # of device memory, for all graphs together
_REPEATS = 3


class Graph:
    """The kernels of one shape, launched as one. Its memory is shared with the other graphs', which
    run one after the other."""

    def __init__(self, encode: Encode, shape: Shape, stream: Any, memory: Any) -> None:
        self._numbers = torch.ones(shape.size + shape.tokens, dtype=torch.int32, device="cuda")
        stream.wait_stream(torch.cuda.current_stream())
        self._graph = torch.cuda.CUDAGraph()
        ids, lengths = taken_apart(self._numbers, shape)
        with torch.inference_mode():
            with torch.cuda.stream(stream):
                encode(ids, lengths)  # libraries set themselves up with the first run
            with torch.cuda.graph(self._graph, pool=memory, stream=stream):
                self._vectors = encode(ids, lengths)

    def __call__(self, numbers: Tensor, shape: Shape) -> Tensor:
        self._numbers.copy_(numbers)
        self._graph.replay()
        return self._vectors


def cuda_streams(device: torch.device) -> Streams:
    incoming, compute, outgoing = (torch.cuda.Stream(device) for _ in range(3))  # type: ignore[no-untyped-call]  # torch's own
    return Streams(
        incoming,
        compute,
        outgoing,
        use=torch.cuda.stream,
        # Whoever waits sleeps: turning in place would take a core from the one that launches.
        event=functools.partial(torch.cuda.Event, blocking=True),
        synchronize=lambda: torch.cuda.synchronize(device),
        device=device,
        is_pinned=True,
    )


def capture_graphs(
    backend: CudaBackend,
    encode: Encode,
    streams: Streams,
    longest_text: int,
    most_inputs: int,
    say: Say,
) -> None:
    """As many as pay and as the budgets of time and memory hold; the rest runs without."""
    memory, started = torch.cuda.graph_pool_handle(), time.perf_counter()
    held = torch.cuda.memory_reserved()

    def seconds(compute: Compute, shape: Shape) -> float:
        numbers = torch.ones(shape.size + shape.tokens, dtype=torch.int32, device=streams.device)
        taken = []
        for _ in range(_REPEATS):
            streams.synchronize()
            begun = time.perf_counter()
            with torch.inference_mode(), streams.use(streams.compute):
                compute(numbers, shape)
            streams.synchronize()
            taken.append(time.perf_counter() - begun)
        return min(taken)

    def capture(shape: Shape) -> tuple[Graph, float]:
        graph = Graph(encode, shape, streams.compute, memory)
        return graph, seconds(graph, shape)

    def is_enough() -> bool:
        grown = torch.cuda.memory_reserved() - held
        return time.perf_counter() - started > CAPTURE_SECONDS or grown > CAPTURE_BYTES

    wanted = shapes(most_inputs, longest_text)
    plain = functools.partial(seconds, backend.plain)
    for shape, graph in capture_all(wanted, capture, plain, is_enough):
        backend.graphs[shape] = graph
    took = time.perf_counter() - started
    say(f"{len(backend.graphs)} of {len(wanted)} shapes run as CUDA graphs, after {took:.1f} s")
