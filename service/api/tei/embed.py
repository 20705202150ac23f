"""POST /embed."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from service.api import schemas
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import ABOUT_DIRECTION, ABOUT_TRUNCATE, Direction, check_direction
from service.catalog import ServedModel
from service.errors import Problem
from service.http.body import fields
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.embed import LARGE, Embed, Vector, check_dimensions, scale, shorten, write_large
from service.tasks.protocol import DEFAULT_OPTIONS, Options
from service.tasks.text_inputs import TextInput, parse

_ABOUT_NORMALIZE = (
    "bring the vectors to length 1; false is refused with 422 if the model itself does that"
)


class EmbedBody(BaseModel):
    """What POST /embed takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[Any, Field(json_schema_extra=schemas.TEXT_INPUTS)]
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction = Field("Right", description=ABOUT_DIRECTION)
    normalize: bool = Field(True, description=_ABOUT_NORMALIZE)
    prompt_name: str | None = Field(
        None,
        description="must be null: there are no named prompts",
        json_schema_extra={"anyOf": [{"type": "null"}]},
    )
    dimensions: schemas.Count | None = Field(
        None, description="how many numbers of each vector to keep"
    )
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


_PLAIN = EmbedBody.model_validate({"inputs": None})


async def embed(state: AppState, exchange: Exchange, body: dict[str, Any] | None = None) -> None:
    """`body`: where it has been read."""
    if body is None:
        body = await exchange.json()
    text = body.get("inputs")
    # The commonest body needs no checking.
    inputs: list[TextInput] = [text] if type(text) is str and len(body) == 1 else []
    options = _PLAIN if inputs else fields(EmbedBody, body)
    task = state.tasks.get(Embed.name)
    if not isinstance(task, Embed):
        task = await state.ask_for(Embed)
    if not inputs:
        _check_options(state.model(), task, options)
        inputs = parse(options.inputs, "inputs", state.input_limit)
    given = Options(truncate=False) if options.truncate is False else DEFAULT_OPTIONS
    results = await state.pipeline.run(exchange, task, inputs, "inputs", given, options.priority)
    vectors = shorten(results.values, options.dimensions)
    if options.normalize and task.normalization == "service":
        vectors = scale(vectors)
    if len(vectors) * len(vectors[0]) > LARGE:
        answer = await write_large(vectors, _alone)
    else:
        answer = orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


def _alone(_place: int, vector: Vector) -> Vector:
    return vector


def _check_options(served: ServedModel, task: Embed, body: EmbedBody) -> None:
    check_dimensions(body.dimensions, served.dimension)
    if body.prompt_name is not None:
        raise Problem(422, "prompt_name: there are no named prompts here", param="prompt_name")
    check_direction(body.truncation_direction)
    if not body.normalize and task.normalization == "model":
        raise Problem(
            422, "normalize: this model's vectors always have length 1", param="normalize"
        )


ROUTE = Route(
    "POST",
    "/embed",
    embed,
    "Embeddings, in the format of text-embeddings-inference",
    {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    (*INFERENCE, 424),
    EmbedBody,
    tasks=(Embed.name,),
)
