"""POST /pooling: what the model's head gives for each text: a vector, or a score for each label."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field

from service.api import schemas
from service.api.openai import check_model
from service.api.routes import INFERENCE, Route
from service.api.vllm.common import TEXTS, VllmAnswer, VllmBody, answer
from service.errors import InputError
from service.http.exchange import Exchange
from service.inference.pipeline import Results
from service.state import AppState
from service.tasks.classify import Classify
from service.tasks.embed import Embed, Unscaled, as_base64, write_large
from service.tasks.score import Score
from service.tasks.text_inputs import parse_texts

Row = NDArray[np.float32]


class VllmPoolingBody(VllmBody):
    """What POST /pooling takes."""

    input: Annotated[Any, Field(description="a text, or a list of texts", json_schema_extra=TEXTS)]
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="float, or base64 of little-endian float32"
    )
    embed_dtype: Literal["float32"] | None = Field(None, description="of base64")
    endianness: Literal["native", "little"] | None = Field(None, description="of base64")
    task: Literal["embed", "classify"] | None = Field(
        None, description="the task that the model must have; null: any"
    )
    dimensions: schemas.Count | None = Field(None, description=schemas.ABOUT_DIMENSIONS)


class VllmVectorsBody(VllmPoolingBody):
    """The same, as far as a model of vectors takes it."""

    task: Literal["embed"] | None = Field(
        None, description="the task that the model has; null: any"
    )


class VllmLogitsBody(VllmPoolingBody):
    """The same, as far as a classifier takes it."""

    task: Literal["classify"] | None = Field(
        None, description="the task that the model has; null: any"
    )
    dimensions: None = Field(None, description="of vectors, which the model has not")


class VllmPooled(schemas.Shape):
    index: int
    object: Literal["pooling"]
    data: list[float] | str


class VllmPooling(VllmAnswer):
    data: list[VllmPooled]


async def pooling(state: AppState, exchange: Exchange) -> None:
    body = state.fields(VllmPoolingBody, await exchange.json())
    served = state.model()
    check_model(served, body.model)
    task = await _task(state, body.task)
    if isinstance(task, Embed):
        task.check_dimensions(body.dimensions, served.dimension)
    elif body.dimensions is not None:
        raise InputError("this model has no vectors", field="dimensions", kind="invalid_request")
    asked = Unscaled(task) if isinstance(task, Embed) and body.is_raw else task
    texts = parse_texts(body.input, "input", state.input_limit)
    results: Results[Row] = await state.pipeline.run(
        exchange, asked, texts, "input", body.options, body.priority
    )
    rows = results.values
    if isinstance(task, Embed):
        rows = task.shorten(rows, body.dimensions, normalize=not body.is_raw)
    elif not body.is_raw:
        rows = [task.scores(logits) for logits in rows]
    written = await write_large(rows, _as_base64 if body.encoding_format == "base64" else _as_row)
    await answer(state, exchange, "pooling", orjson.Fragment(written), results)


async def _task(state: AppState, wanted: str | None) -> Embed | Classify:
    """Raises NotReady, WrongTask."""
    kinds = {"embed": Embed, "classify": Classify}.get(wanted or "", Embed | Classify)
    found = next((each for each in state.tasks.values() if isinstance(each, kinds)), None)
    if isinstance(found, Embed | Classify):
        return found
    return await state.ask_for(Classify if wanted == "classify" else Embed)


def _as_row(place: int, row: Row) -> object:
    return {"index": place, "object": "pooling", "data": row}


def _as_base64(place: int, row: Row) -> object:
    return {"index": place, "object": "pooling", "data": as_base64(row)}


ROUTE = Route(
    "POST",
    "/pooling",
    pooling,
    "A vector for each text, or a score for each label, in vLLM's format",
    VllmPooling,
    INFERENCE,
    bodies={
        Embed.name: (VllmVectorsBody,),
        Classify.name: (VllmLogitsBody,),
        Score.name: (VllmLogitsBody,),
    },
    tasks=(Embed.name, Classify.name, Score.name),
)
