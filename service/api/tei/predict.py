"""POST /predict."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import Field

from service.api import schemas
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import ABOUT_DIRECTION, ABOUT_TRUNCATE, Direction, options_of
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks import classify
from service.tasks.classify import Classify
from service.tasks.score import Score

_TEXT = {"type": "string"}
_ONE_OR_PAIR = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}
_INPUTS: dict[str, Any] = {
    "description": "A text, a pair of texts, or a list of lists of one text or two.",
    "anyOf": [_TEXT, _ONE_OR_PAIR, {"type": "array", "items": _ONE_OR_PAIR, "minItems": 1}],
}


class ClassifyBody(schemas.Body):
    """What POST /predict takes."""

    inputs: Annotated[Any, Field(json_schema_extra=_INPUTS)]
    raw_scores: bool | None = Field(
        False, description="the model's logits instead of scores from 0 to 1"
    )
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


async def classifier(state: AppState) -> Classify:
    """Raises NotReady, WrongTask."""
    task = state.tasks.get(Classify.name) or state.tasks.get(Score.name)
    return task if isinstance(task, Classify) else await state.ask_for(Classify)


async def predict(state: AppState, exchange: Exchange, given: dict[str, Any] | None = None) -> None:
    """`given`: the body, where it has been read."""
    body = state.fields(ClassifyBody, await exchange.json() if given is None else given)
    task = await classifier(state)
    inputs, is_batch = classify.parse(body.inputs, "inputs", state.input_limit)
    options = options_of(body.truncate, body.truncation_direction)
    results = await state.pipeline.run(exchange, task, inputs, "inputs", options, body.priority)
    scores = results.values if body.raw_scores else [task.scores(each) for each in results.values]
    ranked = [classify.ranked(task.labels, each) for each in scores]
    answer = orjson.dumps(ranked if is_batch else ranked[0], option=orjson.OPT_SERIALIZE_NUMPY)
    characters = classify.characters(inputs)
    await exchange.answer(answer, *state.pipeline.timings(exchange, results, characters))


ROUTE = Route(
    "POST",
    "/predict",
    predict,
    "A score for each label, in the format of text-embeddings-inference",
    {
        "anyOf": [
            {"type": "array", "items": schemas.ref(schemas.Prediction)},
            {
                "type": "array",
                "items": {"type": "array", "items": schemas.ref(schemas.Prediction)},
            },
        ]
    },
    (*INFERENCE, 424),
    ClassifyBody,
    tasks=(Classify.name, Score.name),
)
