"""Is it alive, is it ready, and what is it doing: for probes, Prometheus and people."""

from __future__ import annotations

import dataclasses
from urllib.parse import parse_qs

import orjson

from batcher import BatchReport, NotReady, ReplicaSnapshot, Snapshot
from batcher.snapshot import RECENT
from service.api import schemas, tei
from service.api.routes import ANY_ROUTE, Route, WireProtocol
from service.errors import Problem, quote
from service.http.exchange import Exchange
from service.observability import gpu_metrics, prometheus
from service.state import AppState

_STOPPING = "the service is shutting down"
_UNHEALTHY = "unhealthy"


async def live(state: AppState, exchange: Exchange) -> None:
    """The process answers; nothing else is said."""
    await _answer(exchange, {"status": "alive"})


async def ready(state: AppState, exchange: Exchange) -> None:
    """200 while new work is taken, else 503 with the reason."""
    snapshot, reason = await readiness(state)
    if snapshot is not None and reason is None:
        up = sum(replica.ready for replica in snapshot.replicas)
        body = {"status": "ready", "replicas_up": up, "replicas": len(snapshot.replicas)}
        await _answer(exchange, body)
        return
    not_ready = {
        "status": "not ready",
        "reason": reason,
        "error": _UNHEALTHY,  # this and the next as text-embeddings-inference has them
        "error_type": "Unhealthy",
        "request_id": exchange.request_id.decode(),
    }
    await exchange.answer(orjson.dumps(not_ready), (b"retry-after", b"1"), status=503)


async def ping(state: AppState, exchange: Exchange) -> None:
    """As text-embeddings-inference answers the probes of SageMaker and others: 200 and no body."""
    _, reason = await readiness(state)
    if reason is not None:
        raise Problem(503, _UNHEALTHY, retry_after=1.0)
    await exchange.answer(b"", media=b"text/plain; charset=utf-8")


async def readiness(state: AppState) -> tuple[Snapshot | None, str | None]:
    """The engine's state, and why no new work is taken; None: it is."""
    try:
        snapshot = await state.client.snapshot()
        return snapshot, _why_not(state, snapshot)
    except NotReady as error:  # the engine's process is being replaced
        return None, _STOPPING if state.stopping else str(error)


async def metrics(state: AppState, exchange: Exchange) -> None:
    whole = await state.whole_service.take()
    page = prometheus.exposition(
        whole.snapshot, whole.http, whole.frontends, state.version, state.settings.model_id
    )
    page += await gpu_metrics.page(state.gpus, whole.snapshot)
    await exchange.answer(page, media=prometheus.CONTENT_TYPE.encode())


async def stats(state: AppState, exchange: Exchange) -> None:
    """The snapshot as JSON, histograms with their bounds."""
    whole = await state.whole_service.take()
    snapshot = whole.snapshot
    routes: dict[str, dict[str, int]] = {}
    for (route, outcome), durations in whole.http.items():
        routes.setdefault(route, {})[outcome] = durations.count
    await _answer(
        exchange,
        {
            "model": state.settings.model_id,
            "version": state.version,
            "ready": _why_not(state, snapshot) is None,
            **dataclasses.asdict(snapshot),
            "replicas": [_replica(each) for each in snapshot.replicas],
            "cpu_workers": [_replica(each) for each in snapshot.cpu_workers],
            "http": routes,
            **(
                {"fronts": {str(n): up for n, up in whole.frontends.items()}}
                if whole.frontends
                else {}
            ),
        },
    )


async def batches(state: AppState, exchange: Exchange) -> None:
    """The last batches, newest first."""
    given = parse_qs(exchange.query.decode("latin-1"), keep_blank_values=True).get("limit")
    limit = _limit(given[-1] if given else None)
    recent = await state.client.recent_batches()
    now = state.clock.now()
    await _answer(exchange, [_describe(report, now) for report in recent[: -limit - 1 : -1]])


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


def _describe(report: BatchReport, now: float) -> dict[str, object]:
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


def _replica(snapshot: ReplicaSnapshot) -> dict[str, object]:
    shown = {**dataclasses.asdict(snapshot), "up": snapshot.up, "ready": snapshot.ready}
    del shown["info"]
    return {**shown, "facts": snapshot.info.facts()}


def _why_not(state: AppState, snapshot: Snapshot) -> str | None:
    if state.stopping or snapshot.phase != "open":
        return _STOPPING
    if state.served is None:
        return "searching for the model"
    if snapshot.ready:
        return None
    if snapshot.waits_for_stages and any(replica.up for replica in snapshot.replicas):
        return "the CPU workers are starting"
    return "; ".join(_state_of(replica) for replica in snapshot.replicas)


def _state_of(replica: ReplicaSnapshot) -> str:
    name = f"worker {replica.index}"
    if replica.state == "starting" and not replica.reason:
        return f"{name} is loading the model"
    if replica.up:
        return f"{name} has run nothing successfully for {replica.last_ok_age:.0f} s"
    again = f"starts again in {replica.retry_in:.1f} s" if replica.retry_in else "is starting again"
    return f"{name} {again} ({replica.reason})"


async def _answer(exchange: Exchange, body: object) -> None:
    await exchange.answer(orjson.dumps(body, default=str))


_HEALTH = Route(
    "GET",
    "/health",
    ready,
    "Readiness: does the service accept new work?",
    schemas.Health,
    (405,),
    is_open=True,
    not_ready=schemas.Health,
)
_PING = Route(
    "GET",
    "/ping",
    ping,
    "Readiness, as text-embeddings-inference answers it: an empty body",
    {"type": "string", "maxLength": 0},
    (405, 503),
    media="text/plain",
    is_open=True,
)
_OBJECT = {"type": "object"}
_LIMIT = {
    "name": "limit",
    "in": "query",
    "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": RECENT, "default": 100},
    "description": "the most batches to list",
}

PROTOCOL = WireProtocol(
    tei.ERRORS,
    schemas.TEIError,
    (
        _HEALTH,
        dataclasses.replace(_HEALTH, path="/health/ready"),
        _PING,
        dataclasses.replace(_PING, path="/"),
        Route(
            "GET",
            "/health/live",
            live,
            "Liveness: does the process answer?",
            schemas.Health,
            (405,),
            is_open=True,
        ),
        Route(
            "GET",
            "/metrics",
            metrics,
            "Metrics for Prometheus",
            {"type": "string"},
            media="text/plain",
        ),
        Route("GET", "/stats", stats, "A snapshot of the engine, as JSON", _OBJECT),
        Route(
            "GET",
            "/stats/batches",
            batches,
            "The last batches, newest first",
            {"type": "array", "items": schemas.ref(schemas.BatchSummary)},
            (*ANY_ROUTE, 400),
            query=(_LIMIT,),
        ),
    ),
)
