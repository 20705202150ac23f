"""POST /api/embed, and the older POST /api/embeddings."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import Field

from service.api import fields, schemas
from service.api.openai import check_model
from service.api.routes import INFERENCE, Route
from service.http.exchange import Exchange
from service.inference.pipeline import Results
from service.state import AppState
from service.tasks.embed import LARGE, Embed, Unscaled, Vector, write_large
from service.tasks.protocol import Options
from service.tasks.text_inputs import parse_texts

_TEXTS = {"type": "array", "items": {"type": "string"}}
_ABOUT_OPTIONS = "`num_ctx`; what else is in it changes no vector"
_INPUT = {"anyOf": [{"type": "string"}, _TEXTS, {"type": "null"}]}


class OllamaOptions(schemas.Body):
    num_ctx: schemas.Count | None = Field(
        None, description="tokens, special ones included; a text that has more is too long"
    )


class OllamaEmbedBody(schemas.Body):
    """What POST /api/embed takes."""

    input: Annotated[Any, Field(None, json_schema_extra=_INPUT)]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    truncate: bool | None = Field(
        True, description="cut a text over the model's limit; false: refuse it"
    )
    dimensions: fields.CountOrAll | None = Field(None, description=fields.ABOUT_DIMENSIONS)
    options: OllamaOptions | None = Field(None, description=_ABOUT_OPTIONS)


class OllamaEmbeddingsBody(schemas.Body):
    """What POST /api/embeddings takes."""

    prompt: str | None = Field(None, description="one text")
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    options: OllamaOptions | None = Field(None, description=_ABOUT_OPTIONS)


class OllamaEmbedAnswer(schemas.Shape):
    model: str
    embeddings: list[list[float]]
    total_duration: int = Field(description="nanoseconds")
    load_duration: int = Field(description="nanoseconds; always 0: the model is loaded")
    prompt_eval_count: int = Field(description="tokens")


class OllamaEmbeddingsAnswer(schemas.Shape):
    embedding: list[float]


async def embed(state: AppState, exchange: Exchange) -> None:
    """Vectors of length 1. No input, or an empty one, only asks that the model be loaded."""
    body = state.fields(OllamaEmbedBody, await exchange.json())
    served = state.model()
    check_model(served, body.model)
    task = await state.task(Embed)
    dimensions = body.dimensions or None
    task.check_dimensions(dimensions, served.dimension)
    if body.input in (None, "", []):
        task.check_dimensions(dimensions, await state.dimension())  # no vector will be shortened
        await exchange.answer(_embedded(body.model or served.name, b"[]", 0.0, 0))
        return
    texts = parse_texts(body.input, "input", state.input_limit)
    options = _options(body.options, truncate=body.truncate is not False)
    results: Results[Vector] = await state.pipeline.run(exchange, task, texts, "input", options)
    vectors = task.shorten(results.values, dimensions)
    if len(vectors) * len(vectors[0]) > LARGE:
        written = await write_large(vectors, lambda _, vector: vector)
    else:
        written = orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)
    seconds = state.clock.now() - exchange.started
    answer = _embedded(body.model or served.name, written, seconds, results.cost)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


async def embeddings(state: AppState, exchange: Exchange) -> None:
    """The older one: a text at a time, its vector as the model gives it."""
    body = state.fields(OllamaEmbeddingsBody, await exchange.json())
    served = state.model()
    check_model(served, body.model)
    task = Unscaled(await state.task(Embed))
    if not body.prompt:
        await exchange.answer(orjson.dumps({"embedding": []}))
        return
    results: Results[Vector] = await state.pipeline.run(
        exchange, task, [body.prompt], "prompt", _options(body.options)
    )
    answer = orjson.dumps({"embedding": results.values[0]}, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


def _options(asked: OllamaOptions | None, *, truncate: bool = True) -> Options:
    return Options(truncate, max_tokens=None if asked is None else asked.num_ctx)


def _embedded(model: str, vectors: bytes, seconds: float, tokens: int) -> bytes:
    return orjson.dumps(
        {
            "model": model,
            "embeddings": orjson.Fragment(vectors),
            "total_duration": round(seconds * 1e9),
            "load_duration": 0,
            "prompt_eval_count": tokens,
        }
    )


ROUTES = (
    Route(
        "POST",
        "/api/embed",
        embed,
        "Embeddings, in Ollama's format",
        OllamaEmbedAnswer,
        INFERENCE,
        OllamaEmbedBody,
        tasks=(Embed.name,),
    ),
    Route(
        "POST",
        "/api/embeddings",
        embeddings,
        "The embedding of one text, in Ollama's older format",
        OllamaEmbeddingsAnswer,
        INFERENCE,
        OllamaEmbeddingsBody,
        tasks=(Embed.name,),
    ),
)
