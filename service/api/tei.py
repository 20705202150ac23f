"""Hugging Face text-embeddings-inference: POST /embed and /predict, GET /info."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from batcher.runner import RunnerInfo
from batcher.scheduling.replica_model import MOST_TOKENS
from service.api import schemas
from service.api.routes import INFERENCE, NEEDS_MODEL, Route, WireProtocol
from service.catalog import ServedModel
from service.errors import ErrorFormat, Problem
from service.http.body import fields
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks import classify
from service.tasks.classify import Classify
from service.tasks.embed import LARGE, Embed, Vector, check_dimensions, scale, shorten, write_large
from service.tasks.protocol import DEFAULT_OPTIONS, Options
from service.tasks.text_inputs import TextInput, parse

Direction = Literal["Right", "right", "Left", "left"]

_ABOUT_TRUNCATE = "cut a text over the model's limit (the default), or refuse it with 422"
_ABOUT_DIRECTION = "texts are cut on the right; left is refused with 422"
_ABOUT_NORMALIZE = (
    "bring the vectors to length 1; false is refused with 422 if the model itself does that"
)
_TEXT = {"type": "string"}
_ONE_OR_PAIR = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}
_PREDICT_INPUTS: dict[str, Any] = {
    "description": "A text, a pair of texts, or a list of lists of one text or two.",
    "anyOf": [_TEXT, _ONE_OR_PAIR, {"type": "array", "items": _ONE_OR_PAIR, "minItems": 1}],
}


class EmbedBody(BaseModel):
    """What POST /embed takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[Any, Field(json_schema_extra=schemas.TEXT_INPUTS)]
    truncate: bool | None = Field(None, description=_ABOUT_TRUNCATE)
    truncation_direction: Direction = Field("Right", description=_ABOUT_DIRECTION)
    normalize: bool = Field(True, description=_ABOUT_NORMALIZE)
    prompt_name: str | None = Field(
        None,
        description="must be null: there are no named prompts",
        json_schema_extra={"anyOf": [{"type": "null"}]},
    )
    dimensions: schemas.Count | None = Field(
        None, description="how many numbers of each vector to keep"
    )
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {
        "error": problem.message,
        "error_type": "Empty" if problem.code == "empty" else _type_of(problem.status),
        "code": problem.code,
        "request_id": request_id,
    }


def _type_of(status: int) -> str:
    if status in (429, 503):
        return "Overloaded" if status == 429 else "Unhealthy"
    return "Backend" if status >= 500 or status == 424 else "Validation"


ERRORS = ErrorFormat(envelope, statuses={"empty": 400, "wrong_task": 424})

_PLAIN = EmbedBody.model_validate({"inputs": None})


async def embed(state: AppState, exchange: Exchange) -> None:
    body = await exchange.json()
    text = body.get("inputs")
    # The commonest body needs no checking.
    inputs: list[TextInput] = [text] if type(text) is str and len(body) == 1 else []
    options = _PLAIN if inputs else fields(EmbedBody, body)
    task = state.tasks.get(Embed.name)
    if not isinstance(task, Embed):
        task = await state.ask_for(Embed)
    if not inputs:
        _check_options(state.model(), task, options)
        inputs = parse(options.inputs, "inputs", state.input_limit)
    given = Options(truncate=False) if options.truncate is False else DEFAULT_OPTIONS
    results = await state.pipeline.run(exchange, task, inputs, "inputs", given, options.priority)
    vectors = shorten(results.values, options.dimensions)
    if options.normalize and task.normalization == "service":
        vectors = scale(vectors)
    if len(vectors) * len(vectors[0]) > LARGE:
        answer = await write_large(vectors, _alone)
    else:
        answer = orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


def _alone(_place: int, vector: Vector) -> Vector:
    return vector


class ClassifyBody(BaseModel):
    """What POST /predict takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[Any, Field(json_schema_extra=_PREDICT_INPUTS)]
    raw_scores: bool = Field(False, description="the model's logits instead of scores from 0 to 1")
    truncate: bool | None = Field(None, description=_ABOUT_TRUNCATE)
    truncation_direction: Direction = Field("Right", description=_ABOUT_DIRECTION)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


async def predict(state: AppState, exchange: Exchange) -> None:
    body = fields(ClassifyBody, await exchange.json())
    task = state.tasks.get(Classify.name)
    if not isinstance(task, Classify):
        task = await state.ask_for(Classify)
    _check_direction(body.truncation_direction)
    inputs, is_batch = classify.parse(body.inputs, "inputs", state.input_limit)
    options = Options(body.truncate is not False)
    results = await state.pipeline.run(exchange, task, inputs, "inputs", options, body.priority)
    scores = results.values if body.raw_scores else [task.scores(each) for each in results.values]
    ranked = [classify.ranked(task.labels, each) for each in scores]
    answer = orjson.dumps(ranked if is_batch else ranked[0], option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


def _check_options(served: ServedModel, task: Embed, body: EmbedBody) -> None:
    check_dimensions(body.dimensions, served.dimension)
    if body.prompt_name is not None:
        raise Problem(422, "prompt_name: there are no named prompts here", param="prompt_name")
    _check_direction(body.truncation_direction)
    if not body.normalize and task.normalization == "model":
        raise Problem(
            422, "normalize: this model's vectors always have length 1", param="normalize"
        )


def _check_direction(direction: Direction) -> None:
    if direction in ("Left", "left"):
        raise Problem(
            422, "truncation_direction: texts are cut on the right", param="truncation_direction"
        )


def _model_type(served: ServedModel) -> dict[str, object]:
    task = served.tasks.get("classify")
    if not isinstance(task, Classify):
        embeds = "embed" in {*served.tasks, *served.if_class}
        return {"embedding": {"pooling": served.pooling}} if embeds else {}
    labels = {
        "id2label": {str(place): label for place, label in enumerate(task.labels)},
        "label2id": {label: place for place, label in enumerate(task.labels)},
    }
    return {"classifier" if len(task.labels) > 1 else "reranker": labels}


async def info(state: AppState, exchange: Exchange) -> None:
    settings, served = state.settings, await state.decide() or state.model()
    snapshot = await state.client.snapshot()
    runner = snapshot.replicas[0].info if snapshot.replicas else RunnerInfo()
    failed: dict[str, str] = {}
    for replica in snapshot.replicas:
        failed.update(replica.info.backend_failed)
    body = {
        "model_id": served.name,
        "model_sha": None,
        "model_dtype": runner.dtype or None,
        "served_model_name": served.name,
        "model_type": _model_type(served),
        "max_concurrent_requests": settings.max_queue_size,
        "max_input_length": served.max_length,
        "max_batch_tokens": min(
            (replica.max_batch_tokens for replica in snapshot.replicas), default=MOST_TOKENS
        ),
        "max_batch_requests": settings.max_batch_size,
        "max_client_batch_size": settings.client_batch_limit,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": state.version,
        "sha": None,
        "docker_label": None,
        "device": runner.device or None,
        "backend": runner.backend or None,
        "backend_chosen": runner.backend_chosen or None,
        "backend_failed": failed or None,
        "compile": runner.compile or None,
        "dimension": await state.dimension(),
        "replicas": len(snapshot.replicas),
        "places": [
            {"device": each.info.placed_on or None, "cores": each.info.cores or None}
            for each in snapshot.replicas
        ],
        "isolation": settings.isolation,
        "frontends": state.frontends,
    }
    await exchange.answer(orjson.dumps(body))


PROTOCOL = WireProtocol(
    ERRORS,
    schemas.TEIError,
    (
        Route(
            "POST",
            "/embed",
            embed,
            "Embeddings, in the format of text-embeddings-inference",
            {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            (*INFERENCE, 424),
            EmbedBody,
            task=Embed.name,
        ),
        Route(
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
            task=Classify.name,
        ),
        Route(
            "GET", "/info", info, "The model, its backend and the limits", schemas.Info, NEEDS_MODEL
        ),
    ),
    prefix="/",
)
