"""Baseline: no batching. One forward a request, one at a time, in a worker thread beside the loop.

The best of the simple ways: a second thread would only make forwards compete for the same cores.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from loadtests.baselines import model as baseline
from loadtests.baselines.endpoint import application, text_of


def create_app(model: baseline.Embedder) -> Starlette:
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")

    async def embed(request: Request) -> Response:
        text = await text_of(request)
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(executor, model.embed, [text])
        body = orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")

    return application(embed)


if __name__ == "__main__":
    arguments = baseline.parser(__doc__).parse_args()
    baseline.serve(create_app(baseline.load(arguments)), arguments.port)
