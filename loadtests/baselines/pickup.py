"""Baseline: the loop of most batching servers, on the simulated accelerator.

The endpoint puts (text, future) on a queue; a thread picks up the first, then fills the batch for
max_wait from that moment, or until it is full. Written as well as this design allows (nothing
spins, one wake-up of the event loop a batch), so that only the policy differs from ours: however
long the first has waited while the accelerator was busy, it waits again.
"""

import argparse
import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from loadtests.baselines.endpoint import answer, application, text_of
from loadtests.baselines.model import serve
from service.models.config import SimulatedConfig
from service.models.simulated import SimulatedRunner

Vector = NDArray[np.float32]
Waiting = tuple[str, asyncio.Future[tuple[Vector, int]]]  # Resolved with the batch's size beside.


class PickUp:
    """The queue and the thread that runs it."""

    def __init__(self, runner: SimulatedRunner, max_batch: int, max_wait: float) -> None:
        self.waiting: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._runner, self._max_batch, self._max_wait = runner, max_batch, max_wait

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        threading.Thread(target=self._run, args=(loop,), name="pickup", daemon=True).start()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._runner.warm_up()  # In this thread: it is its sleep that is made exact.
        while True:
            batch = self._collect()
            vectors = self._runner.run([text for text, _ in batch])
            loop.call_soon_threadsafe(_settle, batch, vectors)

    def _collect(self) -> list[Waiting]:
        batch = [self.waiting.get()]
        until = time.monotonic() + self._max_wait
        while len(batch) < self._max_batch:
            try:
                # What waits already is taken even when the time is over.
                batch.append(self.waiting.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return batch


def _settle(batch: list[Waiting], vectors: Sequence[Vector]) -> None:
    for (_, future), vector in zip(batch, vectors, strict=True):
        if not future.done():  # Its caller may have left.
            future.set_result((vector, len(batch)))


def create_app(loop: PickUp) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loop.start(asyncio.get_running_loop())
        yield

    async def embed(request: Request) -> Response:
        future: asyncio.Future[tuple[Vector, int]] = asyncio.get_running_loop().create_future()
        loop.waiting.put((await text_of(request), future))
        vector, size = await future
        return answer(vector, size)

    return application(embed, lifespan)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--max-wait-ms", type=float, default=5.0, help="from pick-up")
    parser.add_argument("--fixed-ms", type=float, default=50.0)
    parser.add_argument("--each-ms", type=float, default=5.0)
    arguments = parser.parse_args()
    device = SimulatedRunner(SimulatedConfig(arguments.fixed_ms, arguments.each_ms))
    looping = PickUp(device, arguments.max_batch, arguments.max_wait_ms / 1e3)
    serve(create_app(looping), arguments.port)
