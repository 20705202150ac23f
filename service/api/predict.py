"""A model of the user's own: POST /v1/predict, JSON in and out. Errors as OpenAI writes them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field

from batcher import RunnerFailed
from service.api import openai, schemas
from service.api.routes import INFERENCE, Route, WireProtocol
from service.errors import ErrorFormat, InputError
from service.http.body import parse_exactly
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.custom import Predict
from service.tasks.text_inputs import check_count

_AS_IT_IS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class PredictBody(BaseModel):
    """What POST /v1/predict takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[
        list[Any],
        Field(
            description="any JSON values; the model gets each unchanged. A whole number beyond 64"
            " bits is a 422",
            json_schema_extra={"minItems": 1},
        ),
    ]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


class PredictAnswer(schemas.Shape):
    outputs: list[Any] = Field(description="one for each input, in their order")


async def predict(state: AppState, exchange: Exchange) -> None:
    body = state.fields(PredictBody, await exchange.json(parse_exactly))
    served = state.model()
    openai.check_model(served, body.model)
    task = state.tasks.get(Predict.name)
    if not isinstance(task, Predict):
        task = await state.ask_for(Predict)
    if not body.inputs:
        raise InputError("is empty; at least one is needed", field="inputs", kind="empty")
    check_count(len(body.inputs), "inputs", state.input_limit)
    results = await state.pipeline.run(exchange, task, body.inputs, priority=body.priority)
    await exchange.answer(write(results.values), state.pipeline.timing(exchange, results))


def write(outputs: Sequence[object]) -> bytes:
    """Arrays as lists, numpy's numbers as numbers. Raises RunnerFailed for what JSON cannot say."""
    written = _dumps({"outputs": outputs})
    if b"null" in written:  # orjson writes NaN and infinity so
        for place, each in enumerate(outputs):
            if not _is_finite(each):
                raise RunnerFailed(
                    f"the model's answer cannot be written as JSON: outputs[{place}] holds NaN or"
                    " infinity"
                )
    return written


def _dumps(answer: object) -> bytes:
    """Raises RunnerFailed."""
    with contextlib.suppress(orjson.JSONEncodeError):  # most answers need no second look
        return orjson.dumps(answer, option=_AS_IT_IS)
    try:
        return orjson.dumps(_plain(answer), option=_AS_IT_IS)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise RunnerFailed(f"the model's answer cannot be written as JSON: {error}") from None


def _is_finite(value: object) -> bool:
    """Every number in it. Of what orjson has written: nested no deeper than that goes."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind == "O":
            return _is_finite(value.tolist())
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_is_finite, value)) and all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return True


def _plain(value: object) -> object:
    """Without what orjson does not take of numpy: arrays that are not in one piece, rare dtypes."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


PROTOCOL = WireProtocol(
    ErrorFormat(openai.envelope, codes=openai.ERRORS.codes),
    schemas.OpenAIError,
    (
        Route(
            "POST",
            "/v1/predict",
            predict,
            "A model of your own: any JSON values in, one answer for each out",
            PredictAnswer,
            INFERENCE,
            PredictBody,
            tasks=(Predict.name,),
        ),
    ),
)
