"""What POST / does for models of one task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from service.http.exchange import Exchange
from service.state import AppState


@dataclass(frozen=True, slots=True)
class HubPipeline:
    answer: Callable[[AppState, Exchange], Awaitable[None]]  # reads the body, too
    bodies: Sequence[type[BaseModel]]  # any of these, for /openapi.json


def asks_to_rank(body: Mapping[str, Any]) -> bool:
    """It is one of POST /rerank."""
    return "query" in body and ("texts" in body or "inputs" not in body)
