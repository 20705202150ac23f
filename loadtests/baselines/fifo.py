"""Baseline: batching in arrival order, done well: no spinning, no looking for answers.

Whenever the model is free, its thread takes all that waits, oldest first, up to `--max-batch`, and
pads it to the longest. What most inference servers do. With `--sim-fixed-ms` a simulated
accelerator, where a word is a token, takes the model's place.
"""

import argparse
import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from loadtests.baselines import model as baseline
from loadtests.baselines.endpoint import answer, application, text_of
from service.models.config import SimulatedConfig
from service.models.simulated import SimulatedRunner


class Simulated:
    """The service's own simulated accelerator."""

    def __init__(self, config: SimulatedConfig) -> None:
        self._runner = SimulatedRunner(config)

    def embed(self, texts: Sequence[str]) -> Iterable[Any]:
        return self._runner.run(texts)


class Answered(NamedTuple):
    vector: Any
    size: int  # Of its batch.


class Waiting(NamedTuple):
    text: str
    answer: asyncio.Future[Answered]


class Fifo:
    """The queue, and the thread that empties it."""

    def __init__(self, model: baseline.Embedder, max_batch: int) -> None:
        self._model, self._max_batch = model, max_batch
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()

    def start(self) -> None:
        threading.Thread(target=self._serve, name="fifo", daemon=True).start()

    async def submit(self, text: str) -> Answered:
        waiting = Waiting(text, asyncio.get_running_loop().create_future())
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
        return await waiting.answer

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                count = min(self._max_batch, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
            vectors = self._model.embed([waiting.text for waiting in batch])
            batch[0].answer.get_loop().call_soon_threadsafe(_hand_out, batch, vectors)


def _hand_out(batch: Sequence[Waiting], vectors: Iterable[Any]) -> None:
    for waiting, vector in zip(batch, vectors, strict=True):
        if not waiting.answer.done():  # Else its caller has gone.
            waiting.answer.set_result(Answered(vector, len(batch)))


def create_app(fifo: Fifo) -> Starlette:
    async def embed(request: Request) -> Response:
        vector, size = await fifo.submit(await text_of(request))
        return answer(vector, size)

    return application(embed)


def embedder(args: argparse.Namespace) -> baseline.Embedder:
    if args.sim_fixed_ms is None:
        return baseline.load(args)
    return Simulated(
        SimulatedConfig(args.sim_fixed_ms, args.sim_per_item_ms, args.sim_per_token_us)
    )


if __name__ == "__main__":
    options = baseline.parser(__doc__)
    options.add_argument("--max-batch", type=int, default=64)
    options.add_argument("--sim-fixed-ms", type=float)
    options.add_argument("--sim-per-item-ms", type=float, default=0.0)
    options.add_argument("--sim-per-token-us", type=float, default=0.0)
    arguments = options.parse_args()
    serving = Fifo(embedder(arguments), arguments.max_batch)
    serving.start()
    baseline.serve(create_app(serving), arguments.port)
