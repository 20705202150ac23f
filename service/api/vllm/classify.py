"""POST /classify: the likeliest label of each text, and the scores of all."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from service.api import schemas
from service.api.openai import check_model
from service.api.routes import INFERENCE, Route
from service.api.tei.predict import classifier
from service.api.vllm.common import TEXTS, VllmAnswer, VllmBody, answer
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.classify import Classify
from service.tasks.score import Score
from service.tasks.text_inputs import parse_texts


class VllmClassifyBody(VllmBody):
    """What POST /classify takes."""

    input: Annotated[Any, Field(description="a text, or a list of texts", json_schema_extra=TEXTS)]


class VllmClass(schemas.Shape):
    index: int
    label: str
    probs: list[float]
    num_classes: int


class VllmClasses(VllmAnswer):
    data: list[VllmClass]


async def classify(state: AppState, exchange: Exchange) -> None:
    body = state.fields(VllmClassifyBody, await exchange.json())
    check_model(state.model(), body.model)
    task = await classifier(state)
    texts = parse_texts(body.input, "input", state.input_limit)
    results = await state.pipeline.run(exchange, task, texts, "input", body.options, body.priority)
    rows = []
    for place, logits in enumerate(results.values):
        scores = logits if body.is_raw else task.scores(logits)
        label = task.labels[int(np.argmax(scores))]
        rows.append(
            {"index": place, "label": label, "probs": scores, "num_classes": len(task.labels)}
        )
    await answer(state, exchange, "classify", rows, results)


ROUTE = Route(
    "POST",
    "/classify",
    classify,
    "The likeliest label of each text, in vLLM's format",
    VllmClasses,
    INFERENCE,
    VllmClassifyBody,
    tasks=(Classify.name, Score.name),
)
