"""The way of one batch to the device and back, in memory that is used again. The order of things is
here, which device it is comes from outside: a test brings its own Streams.

Three streams, so that nothing waits that need not: copies in, kernels, copies out. A slot belongs
to one batch from `take` to the end of `collect`; what the device reads and writes for it lies in no
other slot, so three of them let one batch be copied in and one out while a third runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.models.backends import Ids, Rows
from service.models.backends.torch.graph_shapes import Shape

BUFFERS = 3  # one copied in, one running, one copied out: at most two are outstanding

Compute = Callable[[Tensor, Shape], Tensor]
"""From lengths and ids, end to end on the device, to (at least n, width) float32. It only
queues; what it returns may be overwritten by the next batch's."""


@dataclass(frozen=True, slots=True)
class Streams:
    """As torch.cuda has them: streams with wait_event and record_event, events with synchronize."""

    incoming: Any
    compute: Any
    outgoing: Any
    use: Callable[[Any], AbstractContextManager[Any]]  # what is queued in it goes there
    event: Callable[[], Any]
    synchronize: Callable[[], None]  # waits for everything that is queued anywhere
    device: torch.device
    is_pinned: bool  # main memory that the device reads without the processor's help


class TransferBuffer:
    """Grows to the largest batch that was ever in it; allocating pinned memory is slow."""

    def __init__(self, streams: Streams, width: int) -> None:
        self._streams = streams
        self._width = width
        self._sent, self._done, self._fetched = (streams.event() for _ in range(3))
        self._resize(tokens=1024, rows=16)

    def _resize(self, tokens: int, rows: int) -> None:
        pinned, device = self._streams.is_pinned, self._streams.device
        # On the stream that makes no other memory: on that of the kernels it could be some that
        # one of them still reads. And on its device, which a thread does not know by itself.
        with self._streams.use(self._streams.incoming):
            host = torch.empty(tokens, dtype=torch.int32, pin_memory=pinned)
            numbers = torch.empty(tokens, dtype=torch.int32, device=device)
            vectors = torch.empty((rows, self._width), device=device)
            answers = torch.empty((rows, self._width), pin_memory=pinned)
        # All or, if there is no room for one of them, none.
        self._host, self._input, self._vectors, self._answers = host, numbers, vectors, answers

    def launch(self, sequences: Sequence[Ids], shape: Shape, pad_id: int, compute: Compute) -> None:
        """Returns as soon as all is queued. `shape` holds the batch and may be larger."""
        size, numbers, streams = len(sequences), shape.size + shape.tokens, self._streams
        if numbers > len(self._host) or size > len(self._answers):
            self._resize(_room(numbers, len(self._host)), _room(size, len(self._answers)))
        plan_layout(sequences, shape, pad_id, self._host.numpy()[:numbers])
        with streams.use(streams.incoming):
            self._input[:numbers].copy_(self._host[:numbers], non_blocking=True)
            streams.incoming.record_event(self._sent)
        with streams.use(streams.compute):
            streams.compute.wait_event(self._sent)
            # Into this slot: the next batch may overwrite what a graph returns.
            self._vectors[:size].copy_(compute(self._input[:numbers], shape)[:size])
            streams.compute.record_event(self._done)
        with streams.use(streams.outgoing):
            streams.outgoing.wait_event(self._done)
            self._answers[:size].copy_(self._vectors[:size], non_blocking=True)
            streams.outgoing.record_event(self._fetched)

    def collect(self, size: int) -> Rows:
        """Waits for the answers: the one time that a batch makes the processor wait."""
        self._fetched.synchronize()
        return self._answers.numpy()[:size].copy()


class TransferBuffers:
    """A few slots, each of one batch at a time. Two threads: one launches, one collects."""

    def __init__(self, streams: Streams, width: int) -> None:
        self._streams = streams
        self._free = deque(TransferBuffer(streams, width) for _ in range(BUFFERS))

    def launch(
        self, sequences: Sequence[Ids], shape: Shape, pad_id: int, compute: Compute
    ) -> Callable[[], Rows]:
        assert self._free, f"more than {BUFFERS} batches outstanding: this is a bug"
        slot = self._free.popleft()
        try:
            slot.launch(sequences, shape, pad_id, compute)
        except Exception:
            self._streams.synchronize()  # what was queued before it failed may use the slot still
            self._free.append(slot)
            raise

        def collect() -> Rows:
            answers = slot.collect(len(sequences))
            self._free.append(slot)
            return answers

        return collect


def plan_layout(sequences: Sequence[Ids], shape: Shape, pad_id: int, into: Ids) -> None:
    """First the lengths, one a row of the shape, then the rows. A row without a sequence has the
    length 1: attention over nothing has no value."""
    lengths, rows = into[: shape.size], into[shape.size :].reshape(shape)
    lengths[:] = 1
    rows[:] = pad_id
    for row, ids in enumerate(sequences):
        lengths[row] = len(ids)
        rows[row, : len(ids)] = ids


def _room(wanted: int, had: int) -> int:
    return max(had, 1 << (wanted - 1).bit_length())


def taken_apart(numbers: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Ids (size, length) and lengths (size), as plan_layout has laid them out."""
    return numbers[shape.size :].view(shape), numbers[: shape.size]


def longest(sequences: Sequence[Ids]) -> int:
    return int(np.max([len(ids) for ids in sequences]))
