"""POST /infinity/embeddings, and POST /embeddings: the same as POST /v1/embeddings, for clients of
Infinity, of text-embeddings-inference, and of OpenAI with a base URL that lacks the /v1."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.api import fields, openai, schemas
from service.api.embeddings_body import EmbeddingsBody
from service.api.infinity.envelope import model_name
from service.api.routes import INFERENCE, Route
from service.catalog import ServedModel
from service.errors import InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.embed import Embed
from service.tasks.image_embed import ImageEmbed
from service.tasks.images import is_data_uri


class InfinityEmbeddingsBody(EmbeddingsBody):
    """What POST /embeddings takes: the body of POST /v1/embeddings, and Infinity's own fields."""

    dimensions: fields.CountOrAll | None = Field(None, description=fields.ABOUT_DIMENSIONS)
    modality: Literal["text", "image"] | None = Field(
        None, description="image: the inputs are data: URIs, for a model of images and texts"
    )


async def embeddings(state: AppState, exchange: Exchange) -> None:
    body = state.fields(InfinityEmbeddingsBody, await exchange.json())
    if body.modality not in (None, "text"):
        _check_modality(state.model(), body)
    given = {"dimensions": body.dimensions or None, "model": model_name(body.model)}
    await openai.embed(state, exchange, body.model_copy(update=given))


def _check_modality(served: ServedModel, body: InfinityEmbeddingsBody) -> None:
    """Raises InputError, for what would be read as a text, too."""
    if ImageEmbed.name not in served.tasks:
        raise InputError("this model takes texts, no images", field="modality")
    images = body.input if isinstance(body.input, list) else [body.input]
    for place, image in enumerate(images):
        if not isinstance(image, str) or not is_data_uri(image):
            field = "input" if images is not body.input else f"input[{place}]"
            raise InputError("must be an image as a data: URI", field=field)


ROUTE = Route(
    "POST",
    "/embeddings",
    embeddings,
    "Embeddings, in the OpenAI format, with Infinity's fields",
    schemas.EmbeddingsAnswer,
    INFERENCE,
    InfinityEmbeddingsBody,
    tasks=(Embed.name,),
)
