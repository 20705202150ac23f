"""What Ollama's clients ask of the models: GET /api/tags, POST /api/show, GET /api/version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import Field

from service.api import schemas
from service.api.openai import check_model
from service.api.routes import ANY_ROUTE, INFERENCE, NEEDS_MODEL, Route
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.embed import Embed

# Its clients ask for it to see whether the server is new enough for /api/embed, which 0.3.0 was.
_API_VERSION = "0.6.0"
_FAMILY = "encoder"
_DETAILS: Mapping[str, object] = {
    "format": "safetensors",
    "family": _FAMILY,
    "families": [_FAMILY],
    "parameter_size": "",
    "quantization_level": "",
}


class OllamaShowBody(schemas.Body):
    """What POST /api/show takes."""

    model: str | None = Field(None, description=schemas.ABOUT_MODEL)


class OllamaDetails(schemas.Shape):
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(schemas.Shape):
    name: str
    model: str
    modified_at: str
    size: int = Field(description="bytes; not known here")
    digest: str = Field(description="not known here")
    details: OllamaDetails


class OllamaModels(schemas.Shape):
    models: list[OllamaModel]


class OllamaShown(schemas.Shape):
    modified_at: str
    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]


class OllamaVersion(schemas.Shape):
    version: str = Field(description="of Ollama's interface, as far as it is served here")


async def tags(state: AppState, exchange: Exchange) -> None:
    served = state.model()
    models = [
        {
            "name": name,
            "model": name,
            "modified_at": _time(served.created),
            "size": 0,
            "digest": "",
            "details": _DETAILS,
        }
        for name in served.names
    ]
    await exchange.answer(orjson.dumps({"models": models}))


async def show(state: AppState, exchange: Exchange) -> None:
    body = state.fields(OllamaShowBody, await exchange.json())
    served = state.model()
    check_model(served, body.model)
    facts = {"context_length": served.max_length, "embedding_length": served.dimension}
    known = {f"{_FAMILY}.{name}": value for name, value in facts.items() if value is not None}
    shown = {
        "modified_at": _time(served.created),
        "details": _DETAILS,
        "model_info": {"general.architecture": _FAMILY, **known},
        "capabilities": ["embedding"] if Embed.name in served.tasks else [],
    }
    await exchange.answer(orjson.dumps(shown))


async def version(_state: AppState, exchange: Exchange) -> None:
    await exchange.answer(orjson.dumps({"version": _API_VERSION}))


def _time(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat()


ROUTES = (
    Route("GET", "/api/tags", tags, "The models, as Ollama lists them", OllamaModels, NEEDS_MODEL),
    Route(
        "POST",
        "/api/show",
        show,
        "The model, as Ollama describes it",
        OllamaShown,
        INFERENCE,
        OllamaShowBody,
    ),
    Route("GET", "/api/version", version, "For Ollama's clients", OllamaVersion, ANY_ROUTE),
)
