"""Ray Serve: HAProxy in front of a replica that batches with @serve.batch on its event loop."""

import asyncio
import os
import signal
from typing import Any

import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from loadtests.peers.model import load
from loadtests.peers.options import Options

options = Options.from_environment()


@serve.deployment(num_replicas=1, max_ongoing_requests=4096, ray_actor_options={"num_cpus": 1})
class Embed:
    def __init__(self) -> None:
        self._model = load(Options.from_environment())

    @serve.batch(max_batch_size=options.max_batch, batch_wait_timeout_s=options.max_wait_ms / 1000)
    async def embed(self, texts: list[str]) -> list[Any]:
        # A thread, as its documentation says of code that blocks: the loop goes on collecting.
        return list(await asyncio.to_thread(self._model.embed, texts))

    async def __call__(self, request: Request) -> Response:
        vector = await self.embed(orjson.loads(await request.body())["inputs"])
        body = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")


if __name__ == "__main__":
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        configure_logging=False,
        _temp_dir=os.environ["PEER_FOLDER"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": options.port, "access_log": False})
    application = Embed.bind()  # type: ignore[attr-defined]  # Given by the decorator.
    serve.run(application, route_prefix="/embed", logging_config={"enable_access_log": False})
    signal.pause()  # Its own shutdown takes half a minute: whoever started this ends it all.
