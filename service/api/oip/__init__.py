"""Open Inference V2 over HTTP, for clients of Triton and of KServe: tensors in, tensors out.

Sources: kserve/open-inference-protocol, and for what Triton adds docs/protocol/ of
triton-inference-server/server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from service.api.oip import health, infer, metadata, not_offered, statistics
from service.api.oip.bodies import BODIES, complete
from service.api.oip.by_task import SIGNATURES, has_signature
from service.api.oip.envelope import ERRORS, OipError
from service.api.routes import ANY_ROUTE, INFERENCE, NEEDS_MODEL, Route, WireProtocol
from service.api.schemas import ref
from service.tasks.custom import Predict

_OBJECT = {"type": "object"}
_MODEL = "/v2/models/{model}"
_OF_MODEL = (*NEEDS_MODEL, 400, 404)


def _with_versions(*routes: Route) -> Iterator[Route]:
    """Each of a model, and the same of one of its versions."""
    for route in routes:
        yield route
        yield replace(route, path=route.path.replace(_MODEL, f"{_MODEL}/versions/{{version}}"))


_HEALTH = (
    Route(
        "GET",
        "/v2/health/live",
        health.live,
        "Liveness, as Open Inference V2 has it",
        health.OipLive,
        (405,),
        is_open=True,
    ),
    Route(
        "GET",
        "/v2/health/ready",
        health.ready,
        "Readiness, as Open Inference V2 has it",
        health.OipReady,
        (405, 503),
        is_open=True,
    ),
)
PROBES = frozenset(route.path for route in _HEALTH)

PROTOCOL = WireProtocol(
    ERRORS,
    OipError,
    (
        *_with_versions(
            Route(
                "POST",
                f"{_MODEL}/infer",
                infer.infer,
                "Tensors in, tensors out, in the format of Open Inference V2",
                _OBJECT,
                (*INFERENCE, 501),
                bodies=BODIES,
                tasks=(*SIGNATURES, Predict.name),
                answers=has_signature,
                complete=complete,
                is_octets=True,
            ),
            Route(
                "GET",
                f"{_MODEL}/ready",
                health.model_ready,
                "Readiness of the model",
                health.OipModelReady,
                (*NEEDS_MODEL, 404),
            ),
            Route(
                "GET",
                f"{_MODEL}/config",
                metadata.config,
                "The model's configuration, as Triton writes it",
                _OBJECT,
                _OF_MODEL,
            ),
            Route(
                "GET",
                f"{_MODEL}/stats",
                statistics.of_model,
                "What the model has done, as Triton counts it",
                _OBJECT,
                (*NEEDS_MODEL, 404),
            ),
            Route(
                "GET",
                _MODEL,
                metadata.model,
                "The model's tensors",
                metadata.OipModel,
                _OF_MODEL,
            ),
        ),
        Route("GET", "/v2", metadata.server, "The service, and its extensions", metadata.OipServer),
        *_HEALTH,
        Route("GET", "/v2/models", metadata.models, "The models", metadata.OipModels, NEEDS_MODEL),
        Route(
            "GET",
            "/v2/models/stats",
            statistics.of_all,
            "What all models have done",
            _OBJECT,
            NEEDS_MODEL,
        ),
        Route(
            "POST",
            "/v2/repository/index",
            metadata.index,
            "The models and their states",
            {"type": "array", "items": ref(metadata.OipIndexed)},
            (*ANY_ROUTE, 400, 408, 413),
        ),
        *not_offered.ROUTES,
    ),
    prefix="/v2/",
)
