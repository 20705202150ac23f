"""OpenAI's embeddings at the paths of Azure, whose clients send their key as `api-key`."""

from __future__ import annotations

from service.api import openai, schemas
from service.api.embeddings_body import EmbeddingsBody
from service.api.routes import INFERENCE, Endpoint, Route, WireProtocol
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.embed import Embed

_DEPLOYMENTS = "/openai/deployments/"
_END = "/embeddings"


async def embeddings(state: AppState, exchange: Exchange) -> None:
    """The deployment is the model's name, whatever the body says."""
    body = state.fields(EmbeddingsBody, await exchange.json())
    deployment = exchange.path.removeprefix(_DEPLOYMENTS).removesuffix(_END)
    await openai.embed(state, exchange, body.model_copy(update={"model": deployment}))


def _route(path: str, endpoint: Endpoint, summary: str) -> Route:
    return Route(
        "POST",
        path,
        endpoint,
        summary,
        schemas.EmbeddingsAnswer,
        INFERENCE,
        EmbeddingsBody,
        tasks=(Embed.name,),
        query=(_VERSION,),
    )


_VERSION = {
    "name": "api-version",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "accepted and ignored",
}

PROTOCOL = WireProtocol(
    openai.ERRORS,
    schemas.OpenAIError,
    (
        _route(
            f"{_DEPLOYMENTS}{{model}}{_END}",
            embeddings,
            "Embeddings, in the OpenAI format, at the path of an Azure deployment",
        ),
        _route(
            "/openai/v1/embeddings",
            openai.embeddings,
            "Embeddings, in the OpenAI format, at the path of Azure's version 1",
        ),
    ),
    prefix="/openai/",
)
