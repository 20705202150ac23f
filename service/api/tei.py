"""Hugging Face text-embeddings-inference: POST /embed, GET /info."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from batcher.scheduling.replica_model import MOST_TOKENS
from service.errors import Problem
from service.http.body import fields, read
from service.http.exchange import Exchange
from service.inference.pipeline import embed, embed_text
from service.state import Front, Served, State
from service.tasks import text_inputs as inputs
from service.tasks.embed import LARGE, Vector, check_dimensions, scale, shorten, write_large


class EmbedBody(BaseModel):
    """What POST /embed takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[Any, Field(json_schema_extra=inputs.SCHEMA)]
    truncate: bool | None = Field(
        None, description="cut a text over the model's limit (the default), or refuse it with 422"
    )
    truncation_direction: Literal["Right", "right", "Left", "left"] = Field(
        "Right", description="texts are cut on the right; left is refused with 422"
    )
    normalize: bool = Field(True, description="bring the vectors to length 1")
    prompt_name: str | None = Field(
        None,
        description="must be null: there are no named prompts",
        json_schema_extra={"anyOf": [{"type": "null"}]},
    )
    dimensions: inputs.Count | None = Field(None, description="keep the first so many numbers")
    priority: inputs.Priority | None = Field(None, description=inputs.ABOUT_PRIORITY)


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    kind = "Empty" if problem.code == "empty" else problem.kind.tei_type
    return {
        "error": problem.message,
        "error_type": kind,
        "code": problem.code,
        "request_id": request_id,
    }


_PLAIN = EmbedBody.model_validate({"inputs": None})


class Embed:
    """POST /embed"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        front: Front = scope["state"]["front"]
        exchange: Exchange = scope["exchange"]
        body = await read(front, exchange, receive)
        text = body.get("inputs")
        if type(text) is str and len(body) == 1:  # the commonest body needs no checking
            options = _PLAIN
            embedded = await embed_text(front, exchange, text, "inputs", truncate=True)
        else:
            options = fields(EmbedBody, body)
            _check_options(front.model(), options)
            texts = inputs.parse(options.inputs, "inputs", front.input_limit, empty=400)
            truncate = options.truncate is not False
            embedded = await embed(front, exchange, texts, "inputs", truncate, options.priority)
        vectors = shorten(embedded.vectors, options.dimensions)
        if options.normalize and front.model().scaling == "service":
            vectors = scale(vectors)
        if len(vectors) * len(vectors[0]) > LARGE:
            answer = await write_large(vectors, _alone)
        else:
            answer = _encode(vectors)
        await exchange.answer(answer, embedded.timing(front, exchange))


def _encode(vectors: list[Vector]) -> bytes:
    return orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)


def _alone(_place: int, vector: Vector) -> Vector:
    return vector


def _check_options(served: Served, body: EmbedBody) -> None:
    check_dimensions(body.dimensions, served.dimension)
    if body.prompt_name is not None:
        raise Problem(422, "prompt_name: there are no named prompts here", param="prompt_name")
    if body.truncation_direction in ("Left", "left"):
        raise Problem(
            422, "truncation_direction: texts are cut on the right", param="truncation_direction"
        )
    if not body.normalize and served.scaling == "model":
        raise Problem(
            422, "normalize: this model's vectors always have length 1", param="normalize"
        )


async def dimension(front: Front) -> int | None:
    """Of the vectors; None until it is known. A user's own runner tells it when it is up."""
    if front.served is not None and front.served.dimension is not None:
        return front.served.dimension
    snapshot = await front.client.snapshot()
    known = snapshot.replicas[0].facts.get("dimension") if snapshot.replicas else None
    return known if isinstance(known, int) else None


async def info(request: Request[State]) -> Response:
    front = request.state["front"]
    settings, served = front.settings, front.model()
    snapshot = await front.client.snapshot()
    facts = snapshot.replicas[0].facts if snapshot.replicas else {}
    failed: dict[str, str] = {}
    for replica in snapshot.replicas:
        failed.update(replica.facts.get("backend_failed") or {})  # type: ignore[call-overload]  # reasons by name
    body = {
        "model_id": served.model,
        "model_sha": None,
        "model_dtype": facts.get("dtype"),
        "served_model_name": served.model,
        "model_type": {"embedding": {"pooling": served.pooling}},
        "max_concurrent_requests": settings.max_queue_size,
        "max_input_length": served.max_length,
        "max_batch_tokens": min(
            (replica.max_batch_tokens for replica in snapshot.replicas), default=MOST_TOKENS
        ),
        "max_batch_requests": settings.max_batch_size,
        "max_client_batch_size": settings.client_batch_limit,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": front.version,
        "sha": None,
        "docker_label": None,
        "device": facts.get("device"),
        "backend": facts.get("backend"),
        "backend_chosen": facts.get("backend_chosen"),
        "backend_failed": failed or None,
        "compile": facts.get("compile"),
        "dimension": await dimension(front),
        "replicas": len(snapshot.replicas),
        "places": [
            {"device": each.facts.get("placed_on"), "cores": each.facts.get("cores")}
            for each in snapshot.replicas
        ],
        "isolation": settings.isolation,
        "frontends": front.fronts,
    }
    return Response(orjson.dumps(body), media_type="application/json")
