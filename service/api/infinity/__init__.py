"""Infinity's protocol (michaelfeil/infinity 0.0.78) under /infinity, for clients whose base URL
ends in that; and at the root those of its routes that mean the same to other clients."""

from __future__ import annotations

from dataclasses import replace

from service.api import openai, schemas
from service.api.infinity import classify, embeddings, models, rerank
from service.api.infinity.envelope import ERRORS, PREFIX, InfinityError
from service.api.routes import WireProtocol

PROTOCOL = WireProtocol(
    ERRORS,
    InfinityError,
    (
        replace(embeddings.ROUTE, path=f"{PREFIX}/embeddings"),
        rerank.ROUTE,
        classify.ROUTE,
        replace(models.ROUTE, path=f"{PREFIX}/models"),
        models.HEALTH,
    ),
    prefix=f"{PREFIX}/",
)
AT_ROOT = WireProtocol(openai.ERRORS, schemas.OpenAIError, (embeddings.ROUTE, models.ROUTE))
