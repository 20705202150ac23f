"""Is it alive, is it ready: GET /v2/health/…, as Triton's and KServe's clients ask."""

from __future__ import annotations

import orjson

from service.api import operations, schemas
from service.api.oip.envelope import model_of
from service.errors import Problem
from service.http.exchange import Exchange
from service.state import AppState


class OipLive(schemas.Shape):
    live: bool


class OipReady(schemas.Shape):
    """`live`: the specification's name for it, which KServe calls `ready`."""

    live: bool
    ready: bool


class OipModelReady(schemas.Shape):
    name: str
    ready: bool


async def live(state: AppState, exchange: Exchange) -> None:
    """The process answers; nothing else is said."""
    await exchange.answer(orjson.dumps({"live": True}))


async def ready(state: AppState, exchange: Exchange) -> None:
    await _check(state)
    await exchange.answer(orjson.dumps({"live": True, "ready": True}))


async def model_ready(state: AppState, exchange: Exchange) -> None:
    served = await model_of(state, exchange, "/ready")
    await _check(state)
    await exchange.answer(orjson.dumps({"name": served.name, "ready": True}))


async def _check(state: AppState) -> None:
    """Raises Problem 503."""
    _, reason = await operations.readiness(state)
    if reason is not None:
        raise Problem(503, reason, retry_after=1.0)
