"""POST /similarity."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field

from service.api import schemas
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import (
    ABOUT_DIRECTION,
    ABOUT_TRUNCATE,
    Direction,
    options_of,
)
from service.http.exchange import Exchange
from service.inference.ranking import Question, relevance
from service.state import AppState
from service.tasks.embed import Embed
from service.tasks.text_inputs import parse_list

_EXAMPLE: dict[str, Any] = {"inputs": {"source_sentence": "Krill.", "sentences": ["Plankton."]}}


class Sentences(schemas.Body):
    source_sentence: str = Field(description="the text that the others are compared with")
    sentences: Annotated[Any, Field(json_schema_extra=schemas.TEXTS)]


class SimilarityParameters(schemas.Body):
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    prompt_name: str | None = Field(None, description=schemas.ABOUT_PROMPT)


class SimilarityBody(schemas.Body):
    """What POST /similarity takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    inputs: Sentences = Field(description="`source_sentence`, and the `sentences` to compare")
    parameters: SimilarityParameters | None = Field(
        None, description="`truncate`, `truncation_direction`, `prompt_name`"
    )
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


_NO_PARAMETERS = SimilarityParameters.model_validate({})


async def similarity(
    state: AppState, exchange: Exchange, given: dict[str, Any] | None = None
) -> None:
    """`given`: the body, where it has been read."""
    body = state.fields(SimilarityBody, await exchange.json() if given is None else given)
    task = await state.task(Embed)
    parameters = body.parameters or _NO_PARAMETERS
    names = ("inputs.source_sentence", "inputs.sentences")
    sentences = parse_list(body.inputs.sentences, names[1])
    scores, results = await relevance(
        state.pipeline,
        exchange,
        task,
        Question(body.inputs.source_sentence, sentences, names),
        state.input_limit,
        options_of(parameters.truncate, parameters.truncation_direction, parameters.prompt_name),
        body.priority,
        raw=True,
    )
    told = orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY)
    characters = len(body.inputs.source_sentence) + sum(map(len, sentences))
    await exchange.answer(told, *state.pipeline.timings(exchange, results, characters))


ROUTE = Route(
    "POST",
    "/similarity",
    similarity,
    "The cosine of one text with each of others, in the format of text-embeddings-inference",
    {"type": "array", "items": {"type": "number"}},
    (*INFERENCE, 424),
    SimilarityBody,
    tasks=(Embed.name,),
)
