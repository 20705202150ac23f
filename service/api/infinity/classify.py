"""POST /infinity/classify."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.api import openai, schemas
from service.api.infinity.envelope import PREFIX, answer, model_name
from service.api.routes import INFERENCE, Route
from service.api.tei.predict import classifier
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.classify import Classify, ranked
from service.tasks.score import Score
from service.tasks.text_inputs import check_count, parse_list


class InfinityClassifyBody(schemas.Body):
    """What POST /infinity/classify takes."""

    input: Annotated[Any, Field(description="the texts", json_schema_extra=schemas.TEXTS)]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    raw_scores: bool | None = Field(False, description="the model's logits, not from 0 to 1")
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


class InfinityLabels(schemas.Shape):
    object: Literal["classify"]
    data: list[list[schemas.Prediction]]
    model: str
    usage: schemas.Usage
    id: str
    created: int


async def classify(state: AppState, exchange: Exchange) -> None:
    """Of each text all labels, the likeliest first."""
    body = state.fields(InfinityClassifyBody, await exchange.json())
    served = state.model()
    openai.check_model(served, model_name(body.model))
    task = await classifier(state)
    texts = parse_list(body.input, "input")
    check_count(len(texts), "input", state.input_limit)
    results = await state.pipeline.run(exchange, task, texts, "input", priority=body.priority)
    scores = results.values if body.raw_scores else [task.scores(each) for each in results.values]
    data = [ranked(task.labels, each) for each in scores]
    await answer(state, exchange, served, {"object": "classify", "data": data}, results)


ROUTE = Route(
    "POST",
    f"{PREFIX}/classify",
    classify,
    "A score for each label of texts, in Infinity's format",
    InfinityLabels,
    INFERENCE,
    InfinityClassifyBody,
    tasks=(Classify.name, Score.name),
)
