"""POST /vertex, as text-embeddings-inference answers Google's Vertex AI: several bodies of POST /
in one, and an answer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from service.api import schemas
from service.errors import Header, InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.text_inputs import check_count, malformed

Answer = Callable[[AppState, Exchange], Awaitable[None]]

_EXAMPLE: dict[str, Any] = {"instances": [{"inputs": "What do whales eat?"}]}


class VertexBody(schemas.Body):
    """What POST /vertex takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    instances: Annotated[
        Any,
        Field(
            description="bodies of POST /",
            json_schema_extra={"type": "array", "items": {"type": "object"}},
        ),
    ]


class VertexAnswer(schemas.Shape):
    predictions: list[Any] = Field(description="what POST / answers to each, in their order")


class Instance(Exchange):
    """One of the bodies, as an exchange of its own: what its endpoint answers is kept."""

    def __init__(self, whole: Exchange, body: dict[str, Any]) -> None:
        self.headers = whole.headers
        self.request_id = whole.request_id
        self.started = whole.started
        self.timeout = whole.timeout
        self.priority = whole.priority
        self.caller = whole.caller
        self.path = whole.path
        self.query = whole.query
        self.body = body
        self.answered = b""

    async def json(self, _parser: object = None) -> dict[str, Any]:
        return self.body

    async def json_or_bytes(self) -> dict[str, Any] | bytes:
        return self.body

    async def answer(
        self, body: bytes, *_headers: Header, status: int = 200, media: bytes = b""
    ) -> None:
        self.answered = body


def _count(body: dict[str, Any]) -> int:
    """The inputs in one, however its task calls them: the members of its lists. A list of token ids
    is one input."""
    parts = [body, *(part for part in body.values() if isinstance(part, dict))]
    lists = [each for part in parts for each in part.values() if isinstance(each, list)]
    return max(1, sum(1 if _is_ids(each) else len(each) for each in lists))


def _is_ids(value: list[Any]) -> bool:
    return bool(value) and type(value[0]) in (int, float)


async def run(state: AppState, exchange: Exchange, answer: Answer) -> None:
    """All or none: the first error is the answer. They run at once, so that they share batches."""
    given = state.fields(VertexBody, await exchange.json()).instances
    if not isinstance(given, list):
        raise malformed("instances", "a list of objects", given)
    check_count(len(given), "instances", state.input_limit)
    for place, body in enumerate(given):
        if not isinstance(body, dict):
            raise malformed(f"instances[{place}]", "an object", body)
    # Together: more than the queue holds would be refused as an overload, whenever it is sent.
    check_count(sum(map(_count, given)), "instances", state.input_limit)
    instances = [Instance(exchange, body) for body in given]

    async def one(place: int) -> None:
        try:
            await answer(state, instances[place])
        except InputError as error:
            raise error.at(f"instances[{place}].{error.field}") from None

    try:
        async with asyncio.TaskGroup() as group:
            for place in range(len(instances)):
                group.create_task(one(place))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    predictions = b",".join(each.answered for each in instances)
    await exchange.answer(b'{"predictions":[' + predictions + b"]}")
