"""Baseline: the batching design of many a blog post, kept as it is usually written.

The endpoint puts (id, text) on a queue; a thread of the same process spins until it has collected
a batch or its time is over, runs the padded forward, and leaves the answers in a dictionary; the
endpoint looks there every 10 ms. Known faults, kept on purpose: the thread uses a core when idle
and fights the event loop for the interpreter lock; looking costs up to 10 ms; a caller that goes
away leaves its answer behind.
"""

import asyncio
import itertools
import queue
import threading
import time

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from loadtests.baselines import model as baseline
from loadtests.baselines.endpoint import answer, application, text_of

LOOK_SECONDS = 0.01


class BusyLoop:
    """The queue, the spinning thread and the dictionary of answers."""

    def __init__(self, model: baseline.Embedder, max_batch: int, max_wait: float) -> None:
        self.waiting: queue.Queue[tuple[int, str]] = queue.Queue()
        self.answers: dict[int, tuple[NDArray[np.float32] | None, int]] = {}  # Vector, batch size.
        self._model, self._max_batch, self._max_wait = model, max_batch, max_wait

    def start(self) -> None:
        threading.Thread(target=self._spin, name="busyloop", daemon=True).start()

    def _spin(self) -> None:
        while True:
            batch = self._collect()
            if batch:
                self._answer(batch)

    def _collect(self) -> list[tuple[int, str]]:
        batch: list[tuple[int, str]] = []
        started = time.monotonic()
        while len(batch) < self._max_batch and time.monotonic() - started < self._max_wait:
            if not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
        return batch

    def _answer(self, batch: list[tuple[int, str]]) -> None:
        vectors: list[NDArray[np.float32] | None]
        try:
            vectors = list(self._model.embed([text for _, text in batch]))
        except Exception as error:  # Without an answer the callers would look for ever.
            print(f"a batch of {len(batch)} failed: {error!r}", flush=True)
            vectors = [None] * len(batch)
        for (number, _), vector in zip(batch, vectors, strict=True):
            self.answers[number] = vector, len(batch)


def create_app(loop: BusyLoop) -> Starlette:
    numbers = itertools.count()

    async def embed(request: Request) -> Response:
        number = next(numbers)
        loop.waiting.put((number, await text_of(request)))
        while number not in loop.answers:  # noqa: ASYNC110  # The design that is measured here.
            await asyncio.sleep(LOOK_SECONDS)
        vector, size = loop.answers.pop(number)
        if vector is None:
            return Response(b"the model failed", status_code=500)
        return answer(vector, size)

    return application(embed)


if __name__ == "__main__":
    options = baseline.parser(__doc__)
    options.add_argument("--max-batch", type=int, default=64)
    options.add_argument("--max-wait-ms", type=float, default=10.0)
    arguments = options.parse_args()
    spinning = BusyLoop(baseline.load(arguments), arguments.max_batch, arguments.max_wait_ms / 1000)
    spinning.start()
    baseline.serve(create_app(spinning), arguments.port)
