"""The API description: /openapi.json, made of the protocols' own route tables, and /docs to read
it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api import schemas, tei
from service.api.descriptions import REQUEST_HEADERS, STATUSES
from service.api.model_limits import narrow
from service.api.routes import Route, WireProtocol
from service.api.schemas import ref
from service.catalog import ServedModel
from service.http.exchange import Exchange
from service.http.templates import parameters_of
from service.state import AppState

_PAGE = Path(__file__).with_name("docs.html").read_bytes()
_TEXT: dict[str, Any] = {"type": "string"}

# Sent by the edge before the route is known, so all routes share one envelope.
_EDGE = (400, 408, 413, 414, 417, 429, 431, 503)


def describing(others: Sequence[WireProtocol]) -> WireProtocol:
    """The routes that describe these protocols, and themselves."""

    async def openapi(state: AppState, exchange: Exchange) -> None:
        served = await state.decide()
        document = describe(
            (*others, protocol),
            state.version,
            state.settings.api_key is not None,
            served,
            await state.dimension(),
            state.settings.root_path,
            refuses_unknown=state.settings.unknown_fields == "refuse",
            takes_ids=state.settings.token_ids != "refuse",
        )
        await exchange.answer(orjson.dumps(document))

    protocol = WireProtocol(
        tei.ERRORS,
        schemas.TEIError,
        (
            Route("GET", "/openapi.json", openapi, "This document", {"type": "object"}),
            Route(
                "GET",
                "/docs",
                page,
                "This document, as a web page",
                _TEXT,
                (405,),
                media="text/html",
                is_open=True,
            ),
        ),
    )
    return protocol


async def page(state: AppState, exchange: Exchange) -> None:
    """One self-contained page: it works offline."""
    await exchange.answer(_PAGE, media=b"text/html; charset=utf-8")


def describe(
    protocols: Sequence[WireProtocol],
    version: str,
    wants_key: bool,
    served: ServedModel | None = None,
    dimension: int | None = None,
    root_path: str | None = None,
    *,
    refuses_unknown: bool = False,  # fields of a body
    takes_ids: bool = True,  # POST /v1/embeddings, in place of texts
) -> dict[str, Any]:
    """An OpenAPI 3.1 document. It includes the model's own limits, so that a client or a fuzzer
    can make valid requests from it alone."""
    routes = [
        (route, protocol)
        for protocol in protocols
        for route in protocol.routes
        if served is None or _answers(served, route)
    ]
    there = None if served is None else {*served.tasks, *served.if_class}
    bodies = {body for route, _ in routes for body in _bodies(route, there)}
    documented: list[type[BaseModel]] = [*bodies, *_kinds_of(schemas.Shape)]
    documented.sort(key=lambda model: model.__name__)
    _, described = models_json_schema(
        [(model, "validation") for model in documented], ref_template="#/components/schemas/{model}"
    )
    for body in bodies:
        properties = described["$defs"][body.__name__]["properties"]
        if "instances" in properties:
            of_root = "#/paths/~1/post/requestBody/content/application~1json/schema"
            properties["instances"]["items"] = {"$ref": of_root}
    narrow(described["$defs"], bodies, served, dimension, takes_ids=takes_ids)
    if refuses_unknown:
        for schema in described["$defs"].values():
            schema["additionalProperties"] = False
    paths: dict[str, Any] = {}
    for route, protocol in routes:
        paths.setdefault(route.path, {}).update(_path(route, protocol, there))
        if served is not None and route.complete is not None:
            operation = paths[route.path][route.method.lower()]
            route.complete(served, operation, described["$defs"])
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "batcher",
            "version": version,
            "description": "Many small concurrent requests are run as few large batches.",
        },
        "paths": paths,
        "components": {"schemas": described["$defs"]},
    }
    if root_path is not None:
        document["servers"] = [{"url": root_path}]
    if wants_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _kinds_of(shape: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for kind in shape.__subclasses__():
        yield kind
        yield from _kinds_of(kind)


def _answers(served: ServedModel, route: Route) -> bool:
    there = {*served.tasks, *served.if_class}
    fits = not route.tasks or not there.isdisjoint(route.tasks)
    fits = fits and (route.answers is None or route.answers(served))
    return fits and (served.tokenizer is not None or not route.needs_tokenizer)


def _bodies(route: Route, tasks: Container[str] | None) -> list[type[BaseModel]]:
    """Those that it takes for a model of these tasks, by the first that the route names; None: of
    any."""
    fitting = [each for task, each in route.bodies.items() if tasks is None or task in tasks]
    by_task = [body for bodies in fitting[: None if tasks is None else 1] for body in bodies]
    return list(dict.fromkeys([*([route.body] if route.body else []), *by_task]))


def _path(route: Route, protocol: WireProtocol, tasks: Container[str] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {route.method.lower(): _operation(route, protocol, tasks)}
    if names := parameters_of(route.path):
        entry["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names
        ]
    return entry


def _operation(
    route: Route, protocol: WireProtocol, tasks: Container[str] | None
) -> dict[str, Any]:
    bodies = [ref(body) for body in _bodies(route, tasks)]
    edge, errors = ref(schemas.TEIError), [*map(ref, (protocol.error, *route.more_errors))]
    timed = ("server-timing",) if bodies and not route.needs_tokenizer else ()
    answer = route.answer if not isinstance(route.answer, type) else ref(route.answer)
    responses = {"200": _response("the answer", dict(answer), timed, route.media)}
    if route.is_octets:
        responses["200"]["content"]["application/octet-stream"] = {"schema": {}}
    for status in sorted({*route.statuses, *_EDGE}):
        headers: tuple[str, ...] = ()
        if status in (429, 503):
            headers = ("retry-after", "retry-after-ms")
        possible = [*errors] if status in route.statuses else []
        if status in _EDGE and edge not in possible:
            possible.append(edge)
        if status == 503 and route.not_ready is not None:
            possible.insert(0, ref(route.not_ready))
            headers = ("retry-after",)
        responses[str(status)] = _response(STATUSES[status], _any_of(possible), headers)
    operation: dict[str, Any] = {"summary": route.summary, "responses": responses}
    if route.query:
        operation["parameters"] = [dict(each) for each in route.query]
    if route.is_open:
        operation["security"] = []
    if bodies:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _any_of(bodies)}},
        }
        operation["parameters"] = [
            {"name": name, "in": "header", "required": False, "schema": schema, "description": text}
            for name, schema, text in REQUEST_HEADERS
        ]
    return operation


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _response(
    text: str, schema: dict[str, Any], headers: tuple[str, ...], media: str = "application/json"
) -> dict[str, Any]:
    return {
        "description": text,
        "headers": {name: {"schema": _TEXT} for name in ("x-request-id", *headers)},
        "content": {media: {"schema": schema}},
    }
