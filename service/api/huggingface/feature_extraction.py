"""Embedders at POST /: feature extraction, sentence similarity, reranking."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from service.api.huggingface.asked import FEATURES, RERANKING, SIMILARITY
from service.api.huggingface.pipeline import Body, HubPipeline, asks_to_rank
from service.api.tei.embed import EmbedBody, embed
from service.api.tei.rerank import RerankBody, rerank
from service.api.tei.similarity import SimilarityBody, similarity
from service.http.exchange import Exchange
from service.state import AppState


class FeatureExtractionBody(EmbedBody):
    """What POST / takes for an embedder."""

    parameters: dict[str, Any] | None = Field(
        None, description="the options may be in here instead"
    )


async def answer(state: AppState, exchange: Exchange, body: Body) -> None:
    if asks_to_rank(body):
        await rerank(state, exchange, body)
    elif isinstance(body.get("inputs"), dict):
        await similarity(state, exchange, body)
    else:
        more = state.fields(FeatureExtractionBody, body).parameters or {}
        options = body | {name: more[name] for name in more if body.get(name) is None}
        options.pop("parameters", None)
        await embed(state, exchange, options)


PIPELINE = HubPipeline(
    answer,
    (FeatureExtractionBody, SimilarityBody, RerankBody),
    (FEATURES, SIMILARITY, RERANKING),
)
