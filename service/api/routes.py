"""What a protocol declares: its routes, and how it answers errors. app.py makes the one routing
table of it, openapi.py the description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from service.catalog import ServedModel
from service.errors import ErrorFormat
from service.http.exchange import Exchange
from service.state import AppState

Endpoint = Callable[[AppState, Exchange], Awaitable[None]]

Completion = Callable[[ServedModel, dict[str, Any], dict[str, dict[str, Any]]], None]
"""Adds to the description of a route, and to the schemas, what only the served model tells."""

ANY_ROUTE = (401, 405)
NEEDS_MODEL = (*ANY_ROUTE, 503)
TOKENIZER = (400, 401, 405, 408, 413, 415, 422, 424, 429, 503, 504)
INFERENCE = (400, 401, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504)


@dataclass(frozen=True, slots=True)
class Route:
    """`path` may have a `{parameter}` or several, in which any text is, a slash too. A path that
    fits several routes is that of the longest, parameters not counted."""

    method: Literal["GET", "POST"]
    path: str
    endpoint: Endpoint
    summary: str
    answer: Mapping[str, Any] | type[BaseModel]  # a JSON schema
    statuses: Sequence[int] = ANY_ROUTE  # beside 200 and what the edge answers
    body: type[BaseModel] | None = None
    bodies: Mapping[str, Sequence[type[BaseModel]]] = field(default_factory=dict)  # by task
    tasks: Sequence[str] = ()  # what a model must be for, one of these; none: any
    needs_tokenizer: bool = False
    media: str = "application/json"  # of the answer
    answers: Callable[[ServedModel], bool] | None = None  # beside `tasks`: does the model fit?
    is_octets: bool = False  # it may be application/octet-stream, too
    is_open: bool = False  # asks for no key
    more_errors: Sequence[type[BaseModel]] = ()  # of bodies that another protocol answers
    not_ready: type[BaseModel] | None = None  # what a 503 may look like beside the error
    query: Sequence[Mapping[str, Any]] = ()  # parameters, as OpenAPI describes them
    complete: Completion | None = None


@dataclass(frozen=True, slots=True)
class WireProtocol:
    """One wire format. An unknown path is answered as the protocol with its longest prefix does."""

    errors: ErrorFormat
    error: type[BaseModel]  # the shape of the envelope
    routes: Sequence[Route]
    prefix: str | None = None  # of unknown paths that are this protocol's; None: of none
