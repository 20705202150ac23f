"""The body of a request: bytes, then a JSON object, then the fields that a protocol knows."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.types import Receive

from service.errors import Problem
from service.http.exchange import Exchange
from service.http.headers import timeout
from service.http.limits import check_media, check_size, read_on, too_large
from service.state import Front

LARGE = 64 << 10  # bytes; parsing that many takes about 1 ms: more is done off the event loop

Fields = TypeVar("Fields", bound=BaseModel)


async def read(front: Front, exchange: Exchange, receive: Receive) -> dict[str, Any]:
    """Raises Problem 400, 408, 413 or 415; Overloaded or DeadlineExceeded if it is large."""
    headers = exchange.headers
    if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers:
        check_media(headers)
    check_size(headers.get(b"content-length"), front.body_limit)
    exchange.phase = "receiving"
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        data: bytes = message["body"]
        if len(data) > front.body_limit:
            raise too_large(front.body_limit)
    else:
        data = await read_on(message, receive, front.body_limit)
    if len(data) > LARGE:
        exchange.enter("waiting")
        deadline = exchange.started + timeout(headers, front.request_timeout)
        body = await front.aside.run(deadline, _parse, data, caller=exchange.caller)
        exchange.enter("other")
        return body
    exchange.enter("other")
    return _parse(data)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if type(body) is not dict:
        raise Problem(400, "the body must be a JSON object", code="invalid_json")
    return body


def fields(model: type[Fields], body: dict[str, Any]) -> Fields:
    """Raises Problem 400, naming the field and the rule."""
    if len(body) > len(model.model_fields):  # pydantic would write an error for each of 100,000
        unknown = next(name for name in body if name not in model.model_fields)
        raise Problem(400, f"{unknown[:80]}: there is no such field", param=unknown[:80])
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
