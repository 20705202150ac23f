"""OpenAI's embeddings: POST /v1/embeddings, GET /v1/models. As the official clients speak it."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from service.api import schemas
from service.api.embeddings_body import EmbeddingsBody, plain_inputs
from service.api.routes import INFERENCE, NEEDS_MODEL, Route, WireProtocol
from service.api.token_ids import read_ids
from service.catalog import ServedModel
from service.errors import BODY_400, ErrorFormat, Problem, quote
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.embed import LARGE, Embed, Vector, as_base64, write_large
from service.tasks.image_embed import ImageEmbed
from service.tasks.text_inputs import parse


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {
        "error": {
            "message": problem.message,
            "type": _type_of(problem.status),
            "param": problem.param,
            "code": problem.code,
            "request_id": request_id,
        }
    }


def _type_of(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "overloaded_error"
    return "invalid_request_error" if status < 500 else "server_error"


# As OpenAI answers them; LangChain.js asks again after a 422.
ERRORS = ErrorFormat(
    envelope,
    statuses=BODY_400,
    codes={"wrong_task": "model_not_supported"},
    fields={"truncation_direction": "truncate", "max_tokens": "truncate_prompt_tokens"},
)


async def embeddings(state: AppState, exchange: Exchange) -> None:
    await embed(state, exchange, state.fields(EmbeddingsBody, await exchange.json()))


async def embed(state: AppState, exchange: Exchange, body: EmbeddingsBody) -> None:
    served = state.model()
    check_model(served, body.model)
    task = await state.task(Embed)
    task.check_dimensions(body.size, served.dimension)
    plain = plain_inputs(body.input, sees_images=ImageEmbed.name in served.tasks)
    given = parse(plain, "input", state.input_limit)
    inputs = await read_ids(state, exchange, given, "input")
    options = body.options(served.prompts)
    results = await state.pipeline.run(exchange, task, inputs, "input", options, body.priority)
    vectors = task.shorten(results.values, body.size)
    tail = {"model": served.name, "usage": schemas.usage(results.cost)}
    of = _as_base64 if body.is_base64 else _as_numbers
    if len(vectors) * len(vectors[0]) > LARGE:
        answer = _encode(orjson.Fragment(await write_large(vectors, of)), tail)
    else:
        answer = _encode([of(place, vector) for place, vector in enumerate(vectors)], tail)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


def _encode(data: list[object] | orjson.Fragment, tail: Mapping[str, object]) -> bytes:
    return orjson.dumps({"object": "list", "data": data, **tail}, option=orjson.OPT_SERIALIZE_NUMPY)


def _as_numbers(place: int, vector: Vector) -> object:
    return {"object": "embedding", "index": place, "embedding": vector}


def _as_base64(place: int, vector: Vector) -> object:
    return {"object": "embedding", "index": place, "embedding": as_base64(vector)}


def check_model(served: ServedModel, name: str | None) -> None:
    """None: whichever there is."""
    if name is not None and not served.takes_any_name:
        _find(served, name)


def _find(served: ServedModel, name: str) -> None:
    if name not in served.aliases:
        raise Problem(
            404,
            f"model: {quote(name)} is not served here; {', '.join(map(repr, served.names))} is",
            param="model",
            code="model_not_found",
        )


async def list_models(state: AppState, exchange: Exchange) -> None:
    served = state.model()
    body = {"object": "list", "data": [_describe(served, name) for name in served.names]}
    await exchange.answer(orjson.dumps(body))


async def get_model(state: AppState, exchange: Exchange) -> None:
    served = state.model()
    name = exchange.path.removeprefix("/v1/models/")
    _find(served, name)
    listed = name if name in served.names else served.name
    await exchange.answer(orjson.dumps(_describe(served, listed)))


def _describe(served: ServedModel, name: str) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "batcher",
    }


PROTOCOL = WireProtocol(
    ERRORS,
    schemas.OpenAIError,
    (
        Route(
            "POST",
            "/v1/embeddings",
            embeddings,
            "Embeddings, in the OpenAI format",
            schemas.EmbeddingsAnswer,
            INFERENCE,
            EmbeddingsBody,
            tasks=(Embed.name,),
        ),
        Route(
            "GET", "/v1/models", list_models, "The models served", schemas.ModelList, NEEDS_MODEL
        ),
        Route(
            "GET",
            "/v1/models/{model}",
            get_model,
            "The model",
            schemas.Model,
            (*NEEDS_MODEL, 404),
        ),
    ),
    prefix="/v1/",
)
