"""The API description: /openapi.json, built once from the pydantic models, and /docs to read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from batcher.snapshot import RECENT
from service.api import schemas as shapes
from service.api.openai import EmbeddingsBody
from service.api.tei import EmbedBody, dimension
from service.http.headers import MAX_TIMEOUT_MS
from service.state import State

_PAGE = Path(__file__).with_name("docs.html").read_bytes()
_OBJECT: dict[str, Any] = {"type": "object"}
_TEXT: dict[str, Any] = {"type": "string"}

_STATUSES = {
    400: "malformed: the message names the field and the rule",
    401: "the key is missing or wrong",
    404: "no such route or model",
    405: "not with this method",
    408: "the body did not arrive in time",
    413: "the body is too large",
    414: "the URL is too long",
    415: "no JSON, or compressed",
    417: "an expectation other than 100-continue",
    422: "well-formed, but not acceptable to this model or within its limits",
    431: "too many headers, or too large ones",
    429: "overloaded: come back after Retry-After",
    500: "the model failed on this input",
    503: "not ready, draining, or the worker was lost: come back after Retry-After",
    504: "the deadline passed",
}
# Before it is known what is asked for: the edge refuses, and in one envelope for all routes.
_EDGE = (400, 408, 413, 414, 417, 429, 431, 503)
_ANY_ROUTE = (401, 405)
_NEEDS_MODEL = (*_ANY_ROUTE, 503)
_INFERENCE = tuple(_STATUSES)

_REQUEST_HEADERS = [
    (
        "X-Request-Id",
        _TEXT,
        "echoed if it is 1 to 128 of A-Z a-z 0-9 . _ : -; anything else gets a fresh one",
    ),
    (
        "X-Request-Timeout-Ms",
        {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
        "answer within this time, or 504",
    ),
    (
        "Priority",
        {"type": "string", "examples": ["u=1"]},
        "u=0 is soonest, u=3 the default, u=7 last (RFC 9218); anything else counts as u=3."
        " u=4 to u=7 fill what u=0 to u=3 leave. The body's priority wins over it",
    ),
]


async def openapi(request: Request[State]) -> Response:
    front = request.state["front"]
    served = front.served
    document = describe(
        front.version,
        front.settings.api_key is not None,
        sorted(served.names) if served else [],
        await dimension(front),
    )
    return Response(orjson.dumps(document), media_type="application/json")


async def page(request: Request[State]) -> Response:
    """One page with all it needs in it: it works where nothing else can be reached."""
    return Response(_PAGE, media_type="text/html")


def describe(
    version: str, wants_key: bool, models: Sequence[str] = (), dimension: int | None = None
) -> dict[str, Any]:
    """An OpenAPI 3.1 document, with what is known of the model in it: a client, or a fuzzer, that
    reads nothing else can make requests that are answered."""
    documented: list[type[BaseModel]] = [EmbeddingsBody, EmbedBody, *shapes.Shape.__subclasses__()]
    _, schemas = models_json_schema(
        [(model, "validation") for model in documented], ref_template="#/components/schemas/{model}"
    )
    for body in (EmbeddingsBody, EmbedBody):
        properties = schemas["$defs"][body.__name__]["properties"]
        if models and "model" in properties:
            properties["model"]["enum"] = list(models)
        if dimension is not None:
            properties["dimensions"]["anyOf"][0]["maximum"] = dimension
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "batcher",
            "version": version,
            "description": "Embeddings. Many small concurrent requests become few large batches.",
        },
        "paths": _paths(),
        "components": {"schemas": schemas["$defs"]},
    }
    if wants_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _paths() -> dict[str, Any]:
    numbers = {"type": "array", "items": {"type": "number"}}
    vectors = {"type": "array", "items": numbers}
    model_id = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
    limit = {
        "name": "limit",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": RECENT, "default": 100},
        "description": "so many at most",
    }
    health = {
        "get": _operation("Is new work taken?", _ref(shapes.Health), (405,), "") | {"security": []}
    }
    health["get"]["responses"]["503"] = _response(
        "not ready", {"anyOf": [_ref(shapes.Health), _ref(shapes.TEIError)]}, ("retry-after",)
    )
    alive = _operation("Does the process answer?", _ref(shapes.Health), (405,), "")
    page = _operation("This document, to read", _TEXT, (405,), "", media="text/html")
    return {
        "/v1/embeddings": {
            "post": _operation(
                "Vectors, as OpenAI's clients ask for them",
                _ref(shapes.EmbeddingsAnswer),
                _INFERENCE,
                "/v1/",
                _ref(EmbeddingsBody),
            )
        },
        "/embed": {
            "post": _operation(
                "Vectors, as text-embeddings-inference answers",
                vectors,
                _INFERENCE,
                "",
                _ref(EmbedBody),
            )
        },
        "/v1/models": {
            "get": _operation("The model", _ref(shapes.ModelList), _NEEDS_MODEL, "/v1/")
        },
        "/v1/models/{model}": {
            "get": _operation("The model", _ref(shapes.Model), (*_NEEDS_MODEL, 404), "/v1/"),
            "parameters": [model_id],
        },
        "/info": {
            "get": _operation("The model and the limits", _ref(shapes.Info), _NEEDS_MODEL, "")
        },
        "/health": health,
        "/health/ready": health,
        "/health/live": {"get": alive | {"security": []}},
        "/metrics": {
            "get": _operation("For Prometheus", _TEXT, _ANY_ROUTE, "", media="text/plain")
        },
        "/stats": {"get": _operation("The engine at this instant", _OBJECT, _ANY_ROUTE, "")},
        "/stats/batches": {
            "get": _operation(
                "The last batches, newest first",
                {"type": "array", "items": _ref(shapes.BatchTold)},
                (*_ANY_ROUTE, 400),
                "",
            )
            | {"parameters": [limit]}
        },
        "/openapi.json": {"get": _operation("This document", _OBJECT, _ANY_ROUTE, "")},
        "/docs": {"get": page | {"security": []}},
    }


def _operation(
    summary: str,
    answer: dict[str, Any],
    statuses: tuple[int, ...],
    family: str,
    body: dict[str, Any] | None = None,
    media: str = "application/json",
) -> dict[str, Any]:
    edge = _ref(shapes.TEIError)
    error = _ref(shapes.OpenAIError) if family == "/v1/" else edge
    timed = ("server-timing",) if body else ()
    responses = {"200": _response("the answer", answer, timed, media)}
    for status in sorted({*statuses, *_EDGE}):
        headers = ("retry-after", "retry-after-ms") if status in (429, 503) else ()
        schemas = [error] if status in statuses else []
        if status in _EDGE and edge not in schemas:
            schemas.append(edge)
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        responses[str(status)] = _response(_STATUSES[status], schema, headers)
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
        operation["parameters"] = [
            {"name": name, "in": "header", "required": False, "schema": schema, "description": text}
            for name, schema, text in _REQUEST_HEADERS
        ]
    return operation


def _response(
    text: str, schema: dict[str, Any], headers: tuple[str, ...], media: str = "application/json"
) -> dict[str, Any]:
    return {
        "description": text,
        "headers": {name: {"schema": _TEXT} for name in ("x-request-id", *headers)},
        "content": {media: {"schema": schema}},
    }


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
