"""What the routes of Infinity have in common: errors, the model's name, the end of an answer."""

from __future__ import annotations

import time
from typing import Any

import orjson

from service.api import openai, schemas
from service.catalog import ServedModel
from service.errors import ErrorFormat, Problem
from service.http.exchange import Exchange
from service.inference.pipeline import Results
from service.state import AppState

PREFIX = "/infinity"
_ANY_MODEL = "default/not-specified"  # what its clients send where nobody has named one


class InfinityFault(schemas.Shape):
    type: str
    loc: list[str]
    msg: str


class InfinityErrorDetails(schemas.Shape):
    message: str
    type: str
    param: str | None
    code: int
    request_id: str


class InfinityError(schemas.Shape):
    error: InfinityErrorDetails
    detail: list[InfinityFault] | None = None  # of a 422, where its clients look


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    """OpenAI's, with the status for a code; of a 422 also as FastAPI writes it."""
    told = openai.envelope(problem, request_id)
    told["error"] = {**told["error"], "code": problem.status}  # type: ignore[dict-item]  # it is one
    if problem.status == 422:
        place = ["body", *([problem.param] if problem.param else [])]
        told["detail"] = [{"type": problem.code, "loc": place, "msg": problem.message}]
    return told


ERRORS = ErrorFormat(envelope, statuses={"invalid_request": 422})


def model_name(name: str | None) -> str | None:
    """None: whichever there is."""
    return None if name == _ANY_MODEL else name


async def answer(
    state: AppState,
    exchange: Exchange,
    served: ServedModel,
    told: dict[str, object],
    results: Results[Any],
) -> None:
    """`told`, and what every answer of Infinity ends with."""
    tail = {
        "model": served.name,
        "usage": schemas.usage(results.cost),
        "id": f"infinity-{exchange.request_id.decode()}",
        "created": int(time.time()),
    }
    body = orjson.dumps({**told, **tail}, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(body, state.pipeline.timing(exchange, results))
