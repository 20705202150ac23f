"""A model of the user's own: POST /v1/predict, JSON or a file in, JSON or bytes out. Errors as
OpenAI writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from batcher import Request
from service.api import openai, schemas
from service.api.predict.answer import encode
from service.api.predict.body import FORM, content_type_of, is_json, media_of, request_from
from service.api.predict.described import complete
from service.api.routes import INFERENCE, Route, WireProtocol
from service.errors import ErrorFormat, InputError
from service.http.body import LARGE, parse_exactly
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.custom import Predict
from service.tasks.text_inputs import check_count


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
    served = await state.decided()
    task = served.task(Predict)
    content_type = content_type_of(exchange.headers)
    if task.takes_bodies and not is_json(content_type):
        data = await exchange.read()
        inputs: Sequence[Any] = [await _request(state, exchange, data, content_type)]
        field, priority = "the body", None
    else:
        body = state.fields(PredictBody, await exchange.json(parse_exactly))
        openai.check_model(served, body.model)
        if not body.inputs:
            raise InputError("is empty; at least one is needed", field="inputs", kind="empty")
        check_count(len(body.inputs), "inputs", state.input_limit)
        inputs, field, priority = body.inputs, "inputs", body.priority
    results = await state.pipeline.run(exchange, task, inputs, field, priority=priority)
    written, media = encode(results.values)
    await exchange.answer(written, state.pipeline.timing(exchange, results), media=media)


async def _request(state: AppState, exchange: Exchange, data: bytes, content_type: str) -> Request:
    if len(data) <= LARGE or media_of(content_type) != FORM:
        return request_from(data, content_type)
    deadline = exchange.started + exchange.timeout
    return await state.offload.run(
        deadline, request_from, data, content_type, caller=exchange.caller
    )


PROTOCOL = WireProtocol(
    ErrorFormat(openai.envelope, codes=openai.ERRORS.codes),
    schemas.OpenAIError,
    (
        Route(
            "POST",
            "/v1/predict",
            predict,
            "A model of your own: any JSON values in, one answer for each out; or one file",
            PredictAnswer,
            INFERENCE,
            PredictBody,
            tasks=(Predict.name,),
            complete=complete,
        ),
    ),
)
