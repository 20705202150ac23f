"""From a request's inputs to their vectors: what both embedding protocols share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.types import Receive

from batcher import Answer, RunnerFailed
from service.api.inputs import Input
from service.errors import Header, Problem
from service.exchange import Exchange
from service.front import Front
from service.headers import priority, server_timing, timeout
from service.limits import check_media, read_body
from service.tokenizing import InputRefused, Prepared, Preparer

Vector = NDArray[np.float32]
Body = TypeVar("Body", bound=BaseModel)

_MANY = 32  # inputs; more are tokenised off the event loop, as a long text is


async def read(front: Front, exchange: Exchange, receive: Receive) -> dict[str, Any]:
    """The body, a JSON object. Raises Problem 400, 408, 413 or 415."""
    headers = exchange.headers
    if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers:
        check_media(headers)
    exchange.phase = "receiving"
    data = await read_body(headers, receive, front.body_limit)
    exchange.enter("other")
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if type(body) is not dict:
        raise Problem(400, "the body must be a JSON object", code="invalid_json")
    return body


def fields(model: type[Body], body: dict[str, Any]) -> Body:
    """The body as the fields that the protocol knows. Raises Problem 400, naming the field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0])[:80] if first["loc"] else None
        raise Problem(400, f"{field}: {_rule(first)}", param=field) from None


def _rule(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "missing":
        return "this field is required"
    return str(error["msg"])


@dataclass(slots=True)
class Embedded:
    vectors: list[Vector]
    answers: list[Answer]
    tokens: int
    tokenizing: float  # seconds

    def timing(self, total: float) -> Header:
        return (b"server-timing", server_timing(self.answers, self.tokenizing, total))


async def embed(
    front: Front, exchange: Exchange, inputs: list[Input], field: str, truncate: bool
) -> Embedded:
    """All or none, in order. Raises Problem, or what the engine raises."""
    headers, now = exchange.headers, front.clock.now
    deadline = exchange.started + timeout(headers, front.request_timeout)
    urgency = priority(headers)
    preparer = front.model().preparer
    begun = now()
    if _takes_long(preparer, inputs):
        prepared = await asyncio.to_thread(_prepare, preparer, inputs, field, truncate)
    else:
        prepared = _prepare(preparer, inputs, field, truncate)
    tokenizing = now() - begun
    payloads = [one.payload for one in prepared]
    costs = [one.tokens for one in prepared]
    exchange.enter("waiting")
    answers = await front.client.submit_all(
        payloads, costs=costs, deadline=deadline, priority=urgency
    )
    exchange.enter("other")
    vectors = [_vector(answer.value) for answer in answers]
    return Embedded(vectors, answers, sum(costs), tokenizing)


def _takes_long(preparer: Preparer, inputs: list[Input]) -> bool:
    """Too long for the event loop."""
    if len(inputs) == 1:
        return type(inputs[0]) is str and preparer.is_long(inputs[0])
    return len(inputs) > _MANY or any(type(one) is str and preparer.is_long(one) for one in inputs)


def _prepare(preparer: Preparer, inputs: list[Input], field: str, truncate: bool) -> list[Prepared]:
    prepared = []
    try:
        for one in inputs:
            if isinstance(one, str):
                prepared.append(preparer.prepare(one, truncate=truncate))
            else:
                prepared.append(preparer.prepare_ids(one, truncate=truncate))
    except InputRefused as error:
        place = f"{field}[{len(prepared)}]" if len(inputs) > 1 else field
        raise Problem(422, f"{place}: {error}", param=place) from None
    return prepared


def _vector(value: object) -> Vector:
    if type(value) is np.ndarray and value.dtype == np.float32 and value.ndim == 1:
        return value
    try:
        vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        vector = np.empty((0, 0), np.float32)
    if vector.ndim != 1:
        raise RunnerFailed(f"the runner answered {type(value).__name__}, which is no vector")
    return vector


def shorten(vectors: list[Vector], dimensions: int | None) -> list[Vector]:
    """The first `dimensions` numbers, brought back to length 1. Raises Problem 400."""
    if dimensions is None:
        return vectors
    if dimensions > len(vectors[0]):
        raise Problem(
            400,
            f"dimensions: the model's vectors have {len(vectors[0])}, fewer than {dimensions}",
            param="dimensions",
        )
    return scale([vector[:dimensions] for vector in vectors])


def scale(vectors: list[Vector]) -> list[Vector]:
    """To length 1; a vector of zeros stays one."""
    return [vector / (np.linalg.norm(vector) or np.float32(1)) for vector in vectors]
