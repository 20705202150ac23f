"""The HTTP of the baselines: /embed answers with a vector and says how large its batch was.

Only the way to the vector differs between them.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Lifespan

Endpoint = Callable[[Request], Awaitable[Response]]


async def text_of(request: Request) -> str:
    text: str = orjson.loads(await request.body())["inputs"]
    return text


def answer(vector: Any, size: int) -> Response:
    """`size` of the batch that the vector came out of."""
    body = orjson.dumps([vector], option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {"Server-Timing": f'batch;desc="size={size}"'}
    return Response(body, media_type="application/json", headers=headers)


def application(embed: Endpoint, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    return Starlette(
        routes=[Route("/embed", embed, methods=["POST"]), Route("/health/ready", _ready)],
        lifespan=lifespan,
    )


async def _ready(request: Request) -> Response:
    return Response(b"ready")
