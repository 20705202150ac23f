"""POST /v2/embed, and the older POST /v1/embed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import Field

from service.api import schemas
from service.api.cohere.inputs import CohereEmbedBody, CohereImagesBody, parse
from service.api.embeddings_body import CUT_ENDS
from service.api.openai import check_model
from service.api.purposes import prompt_for
from service.api.routes import INFERENCE, Route
from service.errors import InputError, quote
from service.http.exchange import Exchange
from service.inference.pipeline import Results
from service.state import AppState
from service.tasks.embed import LARGE, Embed, Vector, as_base64, write_large
from service.tasks.image_embed import ImageEmbed, TheText
from service.tasks.protocol import Options


class CohereVectors(schemas.Shape):
    floats: list[list[float]] | None = Field(None, alias="float")
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class CohereEmbeddings(schemas.Shape):
    response_type: Literal["embeddings_by_type", "embeddings_floats"]
    id: str
    embeddings: CohereVectors | list[list[float]]
    texts: list[str]
    meta: dict[str, Any]


async def embed_v1(state: AppState, exchange: Exchange) -> None:
    await _embed(state, exchange, "1")


async def embed_v2(state: AppState, exchange: Exchange) -> None:
    await _embed(state, exchange, "2")


async def _embed(state: AppState, exchange: Exchange, version: str) -> None:
    given = await exchange.json()
    _check_types(given.get("embedding_types"))
    body = state.fields(CohereImagesBody, given)
    served = state.model()
    check_model(served, body.model)
    both = state.tasks.get(ImageEmbed.name)
    found = both.in_texts if isinstance(both, ImageEmbed) else state.tasks.get(Embed.name)
    task = found if isinstance(found, Embed) else await state.ask_for(Embed)
    task.check_dimensions(body.output_dimension, served.dimension)
    texts, images, field = parse(body, state.input_limit)
    if images and not isinstance(both, ImageEmbed):
        raise InputError("this model takes texts, no images", field=field)
    options = _options(body, served.prompts)
    results: Results[Vector]
    if isinstance(both, ImageEmbed):
        inputs = [one if place in images else TheText(one) for place, one in enumerate(texts)]
        results = await state.pipeline.run(exchange, both, inputs, field, options, body.priority)
    else:
        results = await state.pipeline.run(exchange, task, texts, field, options, body.priority)
    vectors = task.shorten(results.values, body.output_dimension)
    told: Any
    if version == "1" and not body.embedding_types:
        told = await _as_floats(vectors)
        kind = "embeddings_floats"
    else:
        kinds = dict.fromkeys(body.embedding_types or ("float",))
        told = {name: await _WRITTEN[name](vectors) for name in kinds}
        kind = "embeddings_by_type"
    answer = {
        "response_type": kind,
        "id": exchange.request_id.decode(),
        "embeddings": told,
        "texts": [text for place, text in enumerate(texts) if place not in images],
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"input_tokens": results.cost},
            "tokens": {"input_tokens": results.cost, "output_tokens": 0},
        },
    }
    written = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(written, state.pipeline.timing(exchange, results))


def _check_types(given: object) -> None:
    """Raises InputError for what its clients may ask for and is not to be had."""
    for each in given if isinstance(given, list) else ():
        if each in ("int8", "uint8"):
            raise InputError(
                f"{quote(each)} is not served: Cohere does not publish by which scale it rounds;"
                " ask for float, binary, ubinary or base64",
                field="embedding_types",
                kind="invalid_request",
            )


def _options(body: CohereImagesBody, prompts: Mapping[str, str]) -> Options:
    truncate = body.truncate or "END"
    return Options(
        truncate != "NONE",
        CUT_ENDS.get(truncate),
        prompt_for(body.input_type, prompts),
        max_tokens=body.max_tokens,
    )


async def _as_floats(vectors: Sequence[Vector]) -> object:
    if len(vectors) * len(vectors[0]) <= LARGE:
        return vectors
    return orjson.Fragment(await write_large(vectors, lambda _, vector: vector))


async def _as_base64(vectors: Sequence[Vector]) -> object:
    return orjson.Fragment(await write_large(vectors, lambda _, vector: as_base64(vector)))


async def _as_bits(vectors: Sequence[Vector]) -> object:
    return np.packbits(np.stack(vectors) > 0, axis=1)


async def _as_signed_bits(vectors: Sequence[Vector]) -> object:
    bits = np.packbits(np.stack(vectors) > 0, axis=1)
    return (bits.astype(np.int16) - 128).astype(np.int8)


_WRITTEN: Mapping[str, Callable[[Sequence[Vector]], Any]] = {
    "float": _as_floats,
    "base64": _as_base64,
    "ubinary": _as_bits,
    "binary": _as_signed_bits,
}


def _route(path: str, endpoint: Any, summary: str) -> Route:
    return Route(
        "POST",
        path,
        endpoint,
        summary,
        CohereEmbeddings,
        INFERENCE,
        bodies={ImageEmbed.name: (CohereImagesBody,), Embed.name: (CohereEmbedBody,)},
        tasks=(Embed.name,),
    )


ROUTES = (
    _route("/v2/embed", embed_v2, "Embeddings, in Cohere's format"),
    _route("/v1/embed", embed_v1, "Embeddings, in Cohere's older format"),
)
