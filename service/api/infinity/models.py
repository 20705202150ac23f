"""GET /infinity/models, and GET /models: the models and their load; GET /infinity/health."""

from __future__ import annotations

import time
from typing import Literal

import orjson

from service.api import operations, schemas
from service.api.infinity.envelope import PREFIX
from service.api.routes import NEEDS_MODEL, Route
from service.errors import Problem
from service.http.exchange import Exchange
from service.inference.ranking import task_that_ranks
from service.state import AppState

_CAPABILITIES = {"embed": "embed", "classify": "classify", "image-embed": "image_embed"}  # by task


class InfinityStats(schemas.Shape):
    """Of inputs: the share of the queue that is taken, how many wait, how many wait or run, and the
    most in a batch."""

    queue_fraction: float
    queue_absolute: int
    results_pending: int
    batch_size: int


class InfinityModel(schemas.Shape):
    id: str
    object: Literal["model"]
    owned_by: Literal["infinity"]  # its clients take no other
    created: int
    backend: str
    capabilities: list[str]
    stats: InfinityStats


class InfinityModels(schemas.Shape):
    object: Literal["list"]
    data: list[InfinityModel]


class InfinityHealth(schemas.Shape):
    unix: float


async def models(state: AppState, exchange: Exchange) -> None:
    served, snapshot = await state.decide() or state.model(), await state.client.snapshot()
    capabilities = [_CAPABILITIES[task] for task in served.tasks if task in _CAPABILITIES]
    if task_that_ranks(served.tasks) is not None:
        capabilities.append("rerank")
    settings = state.settings
    shared = {
        "object": "model",
        "owned_by": "infinity",
        "created": served.created,
        "backend": snapshot.replicas[0].info.backend if snapshot.replicas else "",
        "capabilities": capabilities,
        "stats": {
            "queue_fraction": snapshot.waiting / settings.max_queue_size,
            "queue_absolute": snapshot.waiting,
            "results_pending": snapshot.waiting + snapshot.running,
            "batch_size": settings.max_batch_size,
        },
    }
    data = [{"id": name, **shared} for name in served.names]
    await exchange.answer(orjson.dumps({"object": "list", "data": data}))


async def health(state: AppState, exchange: Exchange) -> None:
    _, reason = await operations.readiness(state)
    if reason is not None:
        raise Problem(503, reason, retry_after=1.0)
    await exchange.answer(orjson.dumps({"unix": time.time()}))


ROUTE = Route(
    "GET", "/models", models, "The models and how busy they are", InfinityModels, NEEDS_MODEL
)
HEALTH = Route(
    "GET",
    f"{PREFIX}/health",
    health,
    "Readiness, as Infinity answers it",
    InfinityHealth,
    (405, 503),
    is_open=True,
)
