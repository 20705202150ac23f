"""GET /info."""

from __future__ import annotations

import orjson

from batcher.runner import RunnerInfo
from batcher.scheduling.replica_model import MOST_TOKENS
from service.api import schemas
from service.api.routes import NEEDS_MODEL, Route
from service.catalog import ServedModel
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.classify import Classify
from service.tasks.score import Score
from service.tasks.tag import Tag

_LABELLED = {Classify.name: "classifier", Score.name: "reranker", Tag.name: "token_classifier"}


def _model_type(served: ServedModel) -> dict[str, object]:
    named = ((name, served.tasks.get(name)) for name in _LABELLED)
    kind, task = next(((name, task) for name, task in named if task is not None), ("", None))
    if not isinstance(task, Classify | Tag):
        embeds = not {*served.tasks, *served.if_class}.isdisjoint({"embed", "sparse"})
        return {"embedding": {"pooling": served.pooling}} if embeds else {}
    labels = {
        "id2label": {str(place): label for place, label in enumerate(task.labels)},
        "label2id": {label: place for place, label in enumerate(task.labels)},
    }
    return {_LABELLED[kind]: labels}


async def info(state: AppState, exchange: Exchange) -> None:
    settings, served = state.settings, await state.decide() or state.model()
    snapshot = await state.client.snapshot()
    runner = snapshot.replicas[0].info if snapshot.replicas else RunnerInfo()
    failed: dict[str, str] = {}
    for replica in snapshot.replicas:
        failed.update(replica.info.backend_failed)
    body = {
        "model_id": served.name,
        "model_sha": None,
        "model_dtype": runner.dtype or None,
        "served_model_name": served.name,
        "model_type": _model_type(served),
        "max_concurrent_requests": settings.max_queue_size,
        "max_input_length": served.max_length,
        "max_batch_tokens": min(
            (replica.max_batch_tokens for replica in snapshot.replicas), default=MOST_TOKENS
        ),
        "max_batch_requests": settings.max_batch_size,
        "max_client_batch_size": settings.client_batch_limit,
        "auto_truncate": True,
        "prompts": dict(served.prompts),
        "default_prompt_name": served.default_prompt_name,
        "tokenization_workers": 1,
        "version": state.version,
        "sha": None,
        "docker_label": None,
        "device": runner.device or None,
        "backend": runner.backend or None,
        "backend_chosen": runner.backend_chosen or None,
        "backend_failed": failed or None,
        "compile": runner.compile or None,
        "dimension": await state.dimension(),
        "source": runner.details.get("source"),
        "reference_distance": runner.details.get("reference_distance"),
        "replicas": len(snapshot.replicas),
        "places": [
            {"device": each.info.placed_on or None, "cores": each.info.cores or None}
            for each in snapshot.replicas
        ],
        "isolation": settings.isolation,
        "frontends": state.frontends,
    }
    await exchange.answer(orjson.dumps(body))


ROUTE = Route(
    "GET", "/info", info, "The model, its backend and the limits", schemas.Info, NEEDS_MODEL
)
