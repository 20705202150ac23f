"""What the models have done, as Triton counts it: GET /v2/models/stats, and of one model."""

from __future__ import annotations

import time
from typing import Any

import orjson

from batcher import Snapshot
from service.api.oip.answer import VERSION
from service.api.oip.envelope import model_of
from service.catalog import ServedModel
from service.http.exchange import Exchange
from service.state import AppState


async def of_all(state: AppState, exchange: Exchange) -> None:
    await _answer(state, exchange, state.model())


async def of_model(state: AppState, exchange: Exchange) -> None:
    await _answer(state, exchange, await model_of(state, exchange, "/stats"))


async def _answer(state: AppState, exchange: Exchange, served: ServedModel) -> None:
    snapshot = await state.client.snapshot()
    await exchange.answer(orjson.dumps({"model_stats": [_counted(served.name, snapshot)]}))


def _counted(name: str, now: Snapshot) -> dict[str, Any]:
    """A request of Triton's is an input here, whatever its protocol: rows of several callers run in
    one batch."""
    ages = [each.last_ok_age for each in now.replicas if each.last_ok_age is not None]
    running = now.inference_of_inputs
    return {
        "name": name,
        "version": VERSION,
        "last_inference": round((time.time() - min(ages)) * 1e3) if ages else 0,
        "inference_count": now.ok,
        "execution_count": now.inference.count,
        "inference_stats": {
            "success": _duration(now.ok, now.queue_wait.sum + running),
            "fail": _duration(now.failed + now.expired, 0.0),
            "queue": _duration(now.queue_wait.count, now.queue_wait.sum),
            # The same count of all three, or perf_analyzer ends. Two take no time of their own.
            "compute_input": _duration(now.ok, 0.0),
            "compute_infer": _duration(now.ok, running),
            "compute_output": _duration(now.ok, 0.0),
            "cache_hit": _duration(now.cached, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [],
        "memory_usage": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
