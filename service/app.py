"""create_app: the list of routes, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan

from service.api import openai, tei
from service.api import openapi as docs
from service.api import operations as health
from service.errors import Envelope
from service.http.middleware import ExchangeMiddleware, raise_again
from service.state import Front, State


class Service(Starlette):
    """Starlette with our one middleware around its own, not within."""

    def __init__(
        self, front: Front, routes: Sequence[Route], lifespan: Lifespan[Starlette]
    ) -> None:
        handlers = {HTTPException: raise_again, Exception: raise_again}
        super().__init__(routes=routes, exception_handlers=handlers, lifespan=lifespan)
        self.router.redirect_slashes = False  # a wrong path is a 404, not a second request
        self._front = front

    def build_middleware_stack(self) -> ASGIApp:
        hot: dict[str, ASGIApp] = {"/embed": tei.Embed(), "/v1/embeddings": openai.Embeddings()}
        return ExchangeMiddleware(
            super().build_middleware_stack(), self._front, hot, envelope_of=envelope_of
        )


def create_app(front: Front) -> Starlette:
    """The service as an ASGI application. Its lifespan starts nothing: `front` is all it needs."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        yield {"front": front}

    routes = [
        Route("/embed", tei.Embed(), methods=["POST"]),
        Route("/v1/embeddings", openai.Embeddings(), methods=["POST"]),
        Route("/health/live", health.live),
        Route("/health/ready", health.ready),
        Route("/health", health.ready),
        Route("/metrics", health.metrics_page),
        Route("/stats", health.stats),
        Route("/stats/batches", health.batches),
        Route("/info", tei.info),
        Route("/openapi.json", docs.openapi),
        Route("/docs", docs.page),
        Route("/v1/models", openai.list_models),
        Route("/v1/models/{model:path}", openai.get_model),
    ]
    front.tally.routes = tuple(route.path.replace(":path", "") for route in routes)
    return Service(front, routes, lifespan)


def envelope_of(path: str) -> Envelope:
    """How the protocol that owns a path writes its errors."""
    return openai.envelope if path.startswith("/v1/") else tei.envelope
