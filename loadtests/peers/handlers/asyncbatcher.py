"""async-batcher: batching on the event loop, as a library; HTTP as the baselines have it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from async_batcher.batcher import AsyncBatcher
from starlette.requests import Request
from starlette.responses import Response

from loadtests.baselines.endpoint import answer, application, text_of
from loadtests.baselines.model import serve
from loadtests.peers.model import load
from loadtests.peers.options import Options


class Embed(AsyncBatcher):
    def __init__(self, options: Options) -> None:
        super().__init__(
            max_batch_size=options.max_batch,
            max_queue_time=options.max_wait_ms / 1000,
            concurrency=1,
            executor=ThreadPoolExecutor(1, "forward"),
        )
        self._model = load(options)

    def process_batch(self, batch: list[str]) -> list[tuple[Any, int]]:
        return [(vector, len(batch)) for vector in self._model.embed(batch)]


if __name__ == "__main__":
    options = Options.from_environment()
    batcher = Embed(options)

    async def embed(request: Request) -> Response:
        return answer(*await batcher.process(item=await text_of(request)))

    serve(application(embed), options.port)
