"""OpenAI's embeddings: POST /v1/embeddings, GET /v1/models. As the official clients speak it."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from service.api import schemas
from service.api.routes import INFERENCE, NEEDS_MODEL, Route, WireProtocol
from service.api.token_ids import read_ids
from service.catalog import ServedModel
from service.errors import BODY_400, ErrorFormat, Problem, quote
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.embed import LARGE, Embed, Vector, write_large
from service.tasks.protocol import DEFAULT_OPTIONS, Direction, Options
from service.tasks.text_inputs import parse

# NVIDIA's NIM names the end of a text over the limit that is cut off.
_CUT_ENDS: Mapping[str, Direction] = {"START": "left", "END": "right"}


def _truncation(value: object) -> object:
    if value is None or value is True or value is False or value in ("NONE", *_CUT_ENDS):
        return value
    raise PydanticCustomError("truncate", "must be a boolean, NONE, START or END")


class EmbeddingsBody(schemas.Body):
    """What POST /v1/embeddings takes."""

    input: Annotated[Any, Field(json_schema_extra=schemas.TEXT_INPUTS)]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="float, or base64 of little-endian float32"
    )
    dimensions: schemas.Count | None = Field(None, description=schemas.ABOUT_DIMENSIONS)
    user: str | None = Field(None, description="accepted and ignored")
    truncate: Annotated[Any, AfterValidator(_truncation)] = Field(
        None,
        description="an extension: a text over the model's limit is cut at its end (true, END; null"
        " is true) or at its start (START), or refused (false, NONE)",
        json_schema_extra={
            "anyOf": [{"type": "boolean"}, {"enum": [*_CUT_ENDS, "NONE"]}, {"type": "null"}]
        },
    )
    prompt_name: str | None = Field(None, description=f"an extension: {schemas.ABOUT_PROMPT}")
    # Jina's, which change what is answered.
    embedding_type: Literal["float", "base64"] | None = Field(
        None, description="Jina's encoding_format, over which it wins"
    )
    normalized: Literal[True] | None = Field(
        True, description="Jina's: vectors have length 1 here; POST /embed takes normalize: false"
    )
    late_chunking: Literal[False] | None = Field(False, description="Jina's: not offered here")
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


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
    fields={"truncation_direction": "truncate"},
)


async def embeddings(state: AppState, exchange: Exchange) -> None:
    await embed(state, exchange, state.fields(EmbeddingsBody, await exchange.json()))


async def embed(state: AppState, exchange: Exchange, body: EmbeddingsBody) -> None:
    served = state.model()
    check_model(served, body.model)
    task = state.tasks.get(Embed.name)
    if not isinstance(task, Embed):
        task = await state.ask_for(Embed)
    task.check_dimensions(body.dimensions, served.dimension)
    given = parse(body.input, "input", state.input_limit)
    inputs = await read_ids(state, exchange, given, "input")
    options = DEFAULT_OPTIONS
    if body.truncate is not None or body.prompt_name is not None:
        is_cut = body.truncate not in (False, "NONE")
        options = Options(is_cut, _CUT_ENDS.get(body.truncate), body.prompt_name)
    results = await state.pipeline.run(exchange, task, inputs, "input", options, body.priority)
    vectors = task.shorten(results.values, body.dimensions)
    tail = {
        "model": served.name,
        "usage": {"prompt_tokens": results.cost, "total_tokens": results.cost},
    }
    encoding = body.embedding_type or body.encoding_format
    of = _as_base64 if encoding == "base64" else _as_numbers
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
    numbers = vector.astype("<f4", copy=False).tobytes()
    text = b2a_base64(numbers, newline=False).decode("ascii")
    return {"object": "embedding", "index": place, "embedding": text}


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
