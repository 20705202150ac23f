"""POST /embed."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import Field

from service.api import schemas
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import ABOUT_DIRECTION, ABOUT_TRUNCATE, Direction, options_of
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.embed import LARGE, Embed, Unscaled, Vector, write_large
from service.tasks.protocol import DEFAULT_OPTIONS
from service.tasks.text_inputs import TextInput, parse


class EmbedBody(schemas.Body):
    """What POST /embed takes."""

    inputs: Annotated[Any, Field(json_schema_extra=schemas.TEXT_INPUTS)]
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    normalize: bool | None = Field(
        True, description="bring the vectors to length 1; false: as the model made them"
    )
    prompt_name: str | None = Field(None, description=schemas.ABOUT_PROMPT)
    dimensions: schemas.Dimensions | None = Field(None, description=schemas.ABOUT_DIMENSIONS)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


_PLAIN = EmbedBody.model_validate({"inputs": None})


async def embed(state: AppState, exchange: Exchange, body: dict[str, Any] | None = None) -> None:
    """`body`: where it has been read."""
    if body is None:
        body = await exchange.json()
    text = body.get("inputs")
    # The commonest body needs no checking.
    inputs: list[TextInput] = [text] if type(text) is str and len(body) == 1 else []
    options = _PLAIN if inputs else state.fields(EmbedBody, body)
    task = state.tasks.get(Embed.name)
    if not isinstance(task, Embed):
        task = await state.ask_for(Embed)
    given = DEFAULT_OPTIONS
    if not inputs:
        task.check_dimensions(options.dimensions, state.model().dimension)
        inputs = parse(options.inputs, "inputs", state.input_limit)
        given = options_of(options.truncate, options.truncation_direction, options.prompt_name)
    normalize = options.normalize is not False
    asked = task if normalize else Unscaled(task)
    results = await state.pipeline.run(exchange, asked, inputs, "inputs", given, options.priority)
    vectors = task.shorten(results.values, options.dimensions, normalize=normalize)
    if len(vectors) * len(vectors[0]) > LARGE:
        answer = await write_large(vectors, _alone)
    else:
        answer = orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)
    # Of the one text or of all: `len` of each, without a function of ours.
    characters = sum(map(len, inputs))
    await exchange.answer(answer, *state.pipeline.timings(exchange, results, characters))


def _alone(_place: int, vector: Vector) -> Vector:
    return vector


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
