"""POST /embed_sparse."""

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
from service.tasks.sparse import Sparse, write
from service.tasks.text_inputs import parse

_EXAMPLE: dict[str, Any] = {"inputs": "What do whales eat?"}


class SparseBody(BaseModel):
    """What POST /embed_sparse takes."""

    model_config = ConfigDict(
        extra="ignore", strict=True, json_schema_extra={"examples": [_EXAMPLE]}
    )

    inputs: Annotated[Any, Field(json_schema_extra=schemas.TEXT_INPUTS)]
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    prompt_name: str | None = Field(None, description=schemas.ABOUT_PROMPT)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


async def embed_sparse(
    state: AppState, exchange: Exchange, given: dict[str, Any] | None = None
) -> None:
    """`given`: the body, where it has been read."""
    body = fields(SparseBody, await exchange.json() if given is None else given)
    task = state.tasks.get(Sparse.name)
    if not isinstance(task, Sparse):
        task = await state.ask_for(Sparse)
    inputs = parse(body.inputs, "inputs", state.input_limit)
    options = options_of(body.truncate, body.truncation_direction, body.prompt_name)
    results = await state.pipeline.run(exchange, task, inputs, "inputs", options, body.priority)
    answer = await write(results.values)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


ROUTE = Route(
    "POST",
    "/embed_sparse",
    embed_sparse,
    "Sparse embeddings (SPLADE), in the format of text-embeddings-inference",
    {
        "type": "array",
        "items": {"type": "array", "items": schemas.ref(schemas.SparseValue)},
    },
    (*INFERENCE, 424),
    SparseBody,
    tasks=(Sparse.name,),
)
