"""Is it alive, is it ready, and what is it doing: for probes, Prometheus and people."""

from __future__ import annotations

import dataclasses

import orjson
from starlette.requests import Request
from starlette.responses import Response

from batcher import BatchReport, NotReady, ReplicaSnapshot, Snapshot
from batcher.snapshot import RECENT
from service.errors import Problem, quote
from service.http.exchange import Exchange
from service.observability import gpu_metrics
from service.observability import prometheus as metrics
from service.state import Front, State

_STOPPING = "the service is shutting down"


async def live(request: Request[State]) -> Response:
    """The process answers; nothing else is said."""
    return _json({"status": "alive"})


async def ready(request: Request[State]) -> Response:
    """200 while new work is taken, else 503 with the reason."""
    front = request.state["front"]
    try:
        snapshot = await front.client.snapshot()
        reason = _why_not(front, snapshot)
    except NotReady as error:  # the engine's process is being replaced
        reason = _STOPPING if front.stopping else str(error)
    if reason is None:
        up = sum(replica.ready for replica in snapshot.replicas)
        return _json({"status": "ready", "replicas_up": up, "replicas": len(snapshot.replicas)})
    exchange: Exchange = request.scope["exchange"]
    body = {"status": "not ready", "reason": reason, "request_id": exchange.request_id.decode()}
    return _json(body, 503, {"retry-after": "1"})


async def metrics_page(request: Request[State]) -> Response:
    front = request.state["front"]
    whole = await front.census.take()
    page = metrics.exposition(
        whole.snapshot, whole.http, whole.fronts, front.version, front.settings.model_id
    )
    page += await gpu_metrics.page(front.gpus, whole.snapshot)
    return Response(page, headers={"content-type": metrics.CONTENT_TYPE})


async def stats(request: Request[State]) -> Response:
    """The snapshot as JSON, histograms with their bounds."""
    front = request.state["front"]
    whole = await front.census.take()
    snapshot = whole.snapshot
    routes: dict[str, dict[str, int]] = {}
    for (route, outcome), durations in whole.http.items():
        routes.setdefault(route, {})[outcome] = durations.count
    return _json(
        {
            "model": front.settings.model_id,
            "version": front.version,
            "ready": _why_not(front, snapshot) is None,
            **dataclasses.asdict(snapshot),
            "replicas": [
                {**dataclasses.asdict(each), "up": each.up, "ready": each.ready}
                for each in snapshot.replicas
            ],
            "http": routes,
            **({"fronts": {str(n): up for n, up in whole.fronts.items()}} if whole.fronts else {}),
        }
    )


async def batches(request: Request[State]) -> Response:
    """The last batches, newest first."""
    front = request.state["front"]
    limit = _limit(request.query_params.get("limit"))
    recent = await front.client.recent_batches()
    now = front.clock.now()
    return _json([_told(report, now) for report in recent[: -limit - 1 : -1]])


def _limit(given: str | None) -> int:
    if given is None:
        return 100
    is_number = given.isascii() and given.isdigit() and len(given) <= 4
    if not is_number or not 1 <= int(given) <= RECENT:
        raise Problem(
            400,
            f"limit: must be a whole number from 1 to {RECENT}, not {quote(given)}",
            param="limit",
        )
    return int(given)


def _told(report: BatchReport, now: float) -> dict[str, object]:
    return {
        "replica": report.replica,
        "size": report.size,
        "requests": report.requests,
        "tokens": report.tokens,
        "useful_tokens": report.useful_tokens,
        "padding_ratio": round(report.padding_ratio, 4),
        "reason": report.reason,
        "oldest_wait_ms": round(report.oldest_wait * 1e3, 3),
        "predicted_ms": round(report.predicted * 1e3, 3),
        "inference_ms": round(report.inference * 1e3, 3),
        "closed_ago_s": round(now - report.closed, 3),
    }


def _why_not(front: Front, snapshot: Snapshot) -> str | None:
    if front.stopping or snapshot.phase != "open":
        return _STOPPING
    if front.served is None:
        return "the model is being looked for"
    if snapshot.ready:
        return None
    return "; ".join(_state_of(replica) for replica in snapshot.replicas)


def _state_of(replica: ReplicaSnapshot) -> str:
    name = f"worker {replica.index}"
    if replica.state == "starting" and not replica.reason:
        return f"{name} is loading the model"
    if replica.up:
        return f"{name} has run nothing successfully for {replica.last_ok_age:.0f} s"
    again = f"starts again in {replica.retry_in:.1f} s" if replica.retry_in else "is starting again"
    return f"{name} {again} ({replica.reason})"


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = orjson.dumps(body, default=str)
    return Response(content, status, headers, media_type="application/json")
