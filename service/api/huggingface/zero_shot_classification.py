"""Zero-shot classification at POST /: a text, and labels of the caller's own."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field

from service.api import schemas
from service.errors import InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.protocol import Options
from service.tasks.text_inputs import check_count, malformed, parse_texts
from service.tasks.zero_shot import TEMPLATE, ZeroShot

_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT, "minItems": 1}
_LABELS = {"anyOf": [_TEXT, _TEXTS]}
_SOME = {"type": "string", "minLength": 1}
_INPUTS = {"anyOf": [_SOME, {"type": "array", "items": _SOME, "minItems": 1}]}
_EXAMPLE: dict[str, Any] = {
    "inputs": "My parcel has not arrived.",
    "parameters": {"candidate_labels": ["delivery", "payment"]},
}


class ZeroShotParameters(schemas.Body):
    """As transformers' pipeline names them."""

    candidate_labels: Annotated[
        Any,
        Field(description="texts, or one with commas between them", json_schema_extra=_LABELS),
    ]
    multi_label: bool | None = Field(
        None, description="each label by itself; else all together are 1"
    )
    hypothesis_template: str | None = Field(
        None, description=f"a sentence with {{}} where the label goes; null: `{TEMPLATE}`"
    )


class ZeroShotBody(schemas.Body):
    """What POST / takes for a classifier of natural language inference, beside the others."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    inputs: Annotated[
        Any, Field(description="a text, or a list of texts", json_schema_extra=_INPUTS)
    ]
    parameters: ZeroShotParameters
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


def asks_for_it(body: dict[str, Any]) -> bool:
    parameters = body.get("parameters")
    return isinstance(parameters, dict) and "candidate_labels" in parameters


async def classify(state: AppState, exchange: Exchange, given: dict[str, Any]) -> None:
    """Of each text all labels, the likeliest first."""
    body = state.fields(ZeroShotBody, given)
    task = await state.task(ZeroShot)
    asked = body.parameters
    texts = parse_texts(body.inputs, "inputs", state.input_limit)
    labels = _labels(asked.candidate_labels)
    for place, text in enumerate(texts):
        if not text:
            raise InputError("is empty", field=_field(place, len(texts)), kind="empty")
    check_count(len(texts) * len(labels), "parameters.candidate_labels", state.input_limit)
    template = TEMPLATE if asked.hypothesis_template is None else asked.hypothesis_template
    pairs = [pair for text in texts for pair in _pairs(task, text, labels, template)]

    def field(place: int) -> str:
        return _field(place // len(labels), len(texts))

    results = await state.pipeline.run(exchange, task, pairs, field, Options(), body.priority)
    rows = []
    for start in range(0, len(pairs), len(labels)):
        logits = results.values[start : start + len(labels)]
        scores = task.likelihoods(logits, multi=asked.multi_label is True)
        order = scores.argsort()[::-1]
        rows.append([{"label": labels[place], "score": scores[place]} for place in order])
    told = rows if isinstance(body.inputs, list) else rows[0]
    answer = orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


def _field(place: int, texts: int) -> str:
    return f"inputs[{place}]" if texts > 1 else "inputs"


def _labels(value: object) -> list[str]:
    """Raises InputError."""
    field = "parameters.candidate_labels"
    if isinstance(value, str):
        value = [label.strip() for label in value.split(",") if label.strip()]
        if not value:
            raise InputError("names no label", field=field)
    if not isinstance(value, list):
        raise malformed(field, "a list of texts, or a text with commas between them", value)
    if not value:
        raise InputError("is empty; at least one is needed", field=field, kind="empty")
    for place, label in enumerate(value):
        if not isinstance(label, str):
            raise malformed(f"{field}[{place}]", "a text", label)
    return value


def _pairs(task: ZeroShot, text: str, labels: list[str], template: str) -> list[tuple[str, str]]:
    """Raises InputError."""
    try:
        return task.pairs(text, labels, template)
    except InputError as error:
        raise error.at(f"parameters.{error.field}") from None
