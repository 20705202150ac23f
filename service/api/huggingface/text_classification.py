"""Classifiers and cross-encoders at POST /: text classification, reranking."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from service.api import schemas
from service.api.huggingface import zero_shot_classification as zero_shot
from service.api.huggingface.asked import CLASSIFICATION, RERANKING, ZERO_SHOT
from service.api.huggingface.pipeline import Body, HubPipeline, asks_to_rank, is_of_javascript
from service.api.tei.predict import ClassifyBody, classifier, predict
from service.api.tei.rerank import RerankBody, rerank
from service.errors import InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.classify import TextOrPair, ranked
from service.tasks.protocol import Options
from service.tasks.text_inputs import check_count, malformed

_TEXT: dict[str, Any] = {"type": "string"}
_PAIR = {
    "type": "object",
    "properties": {"text": _TEXT, "text_pair": {"anyOf": [_TEXT, {"type": "null"}]}},
    "required": ["text"],
}
_ONE = {"anyOf": [_TEXT, _PAIR]}
_INPUTS = {"anyOf": [_TEXT, _PAIR, {"type": "array", "items": _ONE, "minItems": 1}]}
_SHAPES = "a text, an object of text and text_pair, or a list of these"


class ClassificationParameters(schemas.Body):
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        None, description="to the logits; null: what fits the model's labels"
    )
    top_k: schemas.Count | None = Field(None, description="labels, highest first; null: all")
    truncation: bool | None = Field(None, description="cut a text over the model's limit, or not")


class TextClassificationBody(schemas.Body):
    """What POST / takes for a classifier. Without `parameters` it takes what POST /predict does."""

    inputs: Annotated[Any, Field(description=_SHAPES, json_schema_extra=_INPUTS)]
    parameters: ClassificationParameters | None = Field(description="`function_to_apply`, `top_k`")
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


_NO_PARAMETERS = ClassificationParameters.model_validate({})


async def answer(state: AppState, exchange: Exchange, body: Body) -> None:
    if asks_to_rank(body):
        await rerank(state, exchange, body)
    elif "parameters" not in body and not is_of_javascript(exchange):
        await predict(state, exchange, body)
    elif zero_shot.asks_for_it(body):
        await zero_shot.classify(state, exchange, body)
    else:
        await _classify(
            state, exchange, state.fields(TextClassificationBody, {"parameters": None, **body})
        )


async def _classify(state: AppState, exchange: Exchange, body: TextClassificationBody) -> None:
    """A list for each input, also where there is one: the client takes the first."""
    task = await classifier(state)
    asked = body.parameters or _NO_PARAMETERS
    inputs = _parse(body.inputs, state.input_limit)
    options = Options(asked.truncation is not False)
    results = await state.pipeline.run(exchange, task, inputs, "inputs", options, body.priority)
    rows = [
        ranked(task.labels, task.scores(logits, asked.function_to_apply))
        for logits in results.values
    ]
    told = orjson.dumps([row[: asked.top_k] for row in rows], option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(told, state.pipeline.timing(exchange, results))


def _parse(value: object, limit: int) -> list[TextOrPair]:
    """Raises InputError."""
    if not isinstance(value, list):
        return [_one(value, "inputs", _SHAPES)]
    if not value:
        raise InputError("is empty; at least one is needed", field="inputs", kind="empty")
    check_count(len(value), "inputs", limit)
    shape = "a text, or an object of text and text_pair"
    return [_one(one, f"inputs[{place}]", shape) for place, one in enumerate(value)]


def _one(value: object, field: str, shape: str) -> TextOrPair:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise malformed(field, shape, value)
    first, second = value.get("text"), value.get("text_pair")
    if not isinstance(first, str):
        raise malformed(f"{field}.text", "a text", first)
    if second is None:
        return first
    if not isinstance(second, str):
        raise malformed(f"{field}.text_pair", "a text", second)
    return first, second


OF_LABELS = HubPipeline(
    answer,
    (TextClassificationBody, ClassifyBody, zero_shot.ZeroShotBody),
    (CLASSIFICATION, ZERO_SHOT),
)
OF_RELEVANCE = HubPipeline(
    answer, (TextClassificationBody, ClassifyBody, RerankBody), (CLASSIFICATION, RERANKING)
)
