"""create_app: the list of routes, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from service.api import health, openai, tei
from service.front import Front, State
from service.middleware import ExchangeMiddleware, on_http_exception


def create_app(front: Front) -> Starlette:
    """The service as an ASGI application. Its lifespan starts nothing: `front` is all it needs."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        yield {"front": front}

    routes = [
        # The router looks from the top: the hot ones first.
        Route("/embed", tei.Embed(), methods=["POST"]),
        Route("/v1/embeddings", openai.Embeddings(), methods=["POST"]),
        Route("/health/live", health.live),
        Route("/health/ready", health.ready),
        Route("/health", health.ready),
        Route("/metrics", health.metrics_page),
        Route("/stats", health.stats),
        Route("/info", tei.info),
        Route("/v1/models", openai.list_models),
        Route("/v1/models/{model:path}", openai.get_model),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(ExchangeMiddleware, front=front)],
        exception_handlers={HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a wrong path is a 404, not a second request
    front.tally.routes = frozenset(route.path for route in routes)
    return app
