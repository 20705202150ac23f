"""OpenAI's embeddings: POST /v1/embeddings, GET /v1/models. As the official clients speak it."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import Problem, quote
from service.http.body import fields, read
from service.http.exchange import Exchange
from service.inference.pipeline import embed, embed_text
from service.state import Front, Served, State
from service.tasks import text_inputs as inputs
from service.tasks.embed import LARGE, Vector, check_dimensions, shorten, write_large


class EmbeddingsBody(BaseModel):
    """What POST /v1/embeddings takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: Annotated[Any, Field(json_schema_extra=inputs.SCHEMA)]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: inputs.Count | None = Field(None, description="keep the first so many numbers")
    user: str | None = Field(None, description="accepted and ignored")
    truncate: bool = Field(
        True, description="an extension: false refuses a text over the model's limit with 422"
    )
    priority: inputs.Priority | None = Field(None, description=inputs.ABOUT_PRIORITY)


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {
        "error": {
            "message": problem.message,
            "type": problem.kind.openai_type,
            "param": problem.param,
            "code": problem.code,
            "request_id": request_id,
        }
    }


class Embeddings:
    """POST /v1/embeddings"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        front: Front = scope["state"]["front"]
        exchange: Exchange = scope["exchange"]
        body = fields(EmbeddingsBody, await read(front, exchange, receive))
        served = front.model()
        check_model(served, body.model)
        check_dimensions(body.dimensions, served.dimension)
        if type(body.input) is str:
            embedded = await embed_text(
                front, exchange, body.input, "input", body.truncate, body.priority
            )
        else:
            texts = inputs.parse(body.input, "input", front.input_limit)
            embedded = await embed(front, exchange, texts, "input", body.truncate, body.priority)
        vectors = shorten(embedded.vectors, body.dimensions)
        tail = {
            "model": served.model,
            "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
        }
        of = _as_base64 if body.encoding_format == "base64" else _as_numbers
        if len(vectors) * len(vectors[0]) > LARGE:
            answer = _encode(orjson.Fragment(await write_large(vectors, of)), tail)
        else:
            answer = _encode([of(place, vector) for place, vector in enumerate(vectors)], tail)
        await exchange.answer(answer, embedded.timing(front, exchange))


def _encode(data: list[object] | orjson.Fragment, tail: Mapping[str, object]) -> bytes:
    return orjson.dumps({"object": "list", "data": data, **tail}, option=orjson.OPT_SERIALIZE_NUMPY)


def _as_numbers(place: int, vector: Vector) -> object:
    return {"object": "embedding", "index": place, "embedding": vector}


def _as_base64(place: int, vector: Vector) -> object:
    numbers = vector.astype("<f4", copy=False).tobytes()
    text = b2a_base64(numbers, newline=False).decode("ascii")
    return {"object": "embedding", "index": place, "embedding": text}


def check_model(served: Served, name: str) -> None:
    if name not in served.names:
        raise Problem(
            404,
            f"model: {quote(name)} is not served here; {served.model!r} is",
            param="model",
            code="model_not_found",
        )


async def list_models(request: Request[State]) -> Response:
    served = request.state["front"].model()
    return _json({"object": "list", "data": [_describe(served)]})


async def get_model(request: Request[State]) -> Response:
    served = request.state["front"].model()
    check_model(served, request.path_params["model"])
    return _json(_describe(served))


def _describe(served: Served) -> dict[str, object]:
    return {
        "id": served.model,
        "object": "model",
        "created": served.created,
        "owned_by": "batcher",
    }


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
