"""POST /embed_all."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.api import schemas
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import (
    ABOUT_DIRECTION,
    ABOUT_TRUNCATE,
    Direction,
    options_of,
)
from service.http.body import fields
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.all_tokens import AllTokens, OneAnswer, write
from service.tasks.text_inputs import parse

_EXAMPLE: dict[str, Any] = {"inputs": "What do whales eat?"}


class AllTokensBody(BaseModel):
    """What POST /embed_all takes."""

    model_config = ConfigDict(
        extra="ignore", strict=True, json_schema_extra={"examples": [_EXAMPLE]}
    )

    inputs: Annotated[Any, Field(json_schema_extra=schemas.TEXT_INPUTS)]
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    prompt_name: str | None = Field(None, description=schemas.ABOUT_PROMPT)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


async def embed_all(
    state: AppState, exchange: Exchange, given: dict[str, Any] | None = None
) -> None:
    """`given`: the body, where it has been read."""
    body = fields(AllTokensBody, await exchange.json() if given is None else given)
    task = state.tasks.get(AllTokens.name)
    if not isinstance(task, AllTokens):
        task = await state.ask_for(AllTokens)
    inputs = parse(body.inputs, "inputs", state.input_limit)
    options = options_of(body.truncate, body.truncation_direction, body.prompt_name)
    results = await state.pipeline.run(
        exchange, OneAnswer(task), inputs, "inputs", options, body.priority
    )
    answer = await write(results.values)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


_NUMBERS = {"type": "array", "items": {"type": "number"}}
ROUTE = Route(
    "POST",
    "/embed_all",
    embed_all,
    "A vector for each token, in the format of text-embeddings-inference",
    {"type": "array", "items": {"type": "array", "items": _NUMBERS}},
    (*INFERENCE, 424),
    AllTokensBody,
    tasks=(AllTokens.name,),
)
