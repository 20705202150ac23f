"""What POST / does for models of one task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from service.http.exchange import Exchange
from service.state import AppState

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HubPipeline:
    """`answer`: to the body that has been read."""

    answer: Callable[[AppState, Exchange, Body], Awaitable[None]]
    bodies: Sequence[type[BaseModel]]  # any of these, for /openapi.json
    tasks: Sequence[str]  # of asked.py: what it serves
    see: Callable[[AppState, Exchange, bytes], Awaitable[None]] | None = None  # an image as it is


def asks_to_rank(body: Mapping[str, Any]) -> bool:
    """It is one of POST /rerank."""
    return "query" in body and ("texts" in body or "inputs" not in body)


def is_of_javascript(exchange: Exchange) -> bool:
    """The client is `@huggingface/inference`, which leaves `parameters` out where it has none, and
    takes no answer in the form of text-embeddings-inference. In a browser that hides the name, its
    caller has to give it some."""
    return exchange.headers.get(b"user-agent", b"").startswith(b"@huggingface/inference/")
