"""Sparse encoders at POST /, as text-embeddings-inference answers there; reranking."""

from __future__ import annotations

from service.api.huggingface.asked import FEATURES, RERANKING
from service.api.huggingface.pipeline import Body, HubPipeline, asks_to_rank
from service.api.tei.embed_sparse import SparseBody, embed_sparse
from service.api.tei.rerank import RerankBody, rerank
from service.http.exchange import Exchange
from service.state import AppState


async def answer(state: AppState, exchange: Exchange, body: Body) -> None:
    if asks_to_rank(body):
        await rerank(state, exchange, body)
    else:
        await embed_sparse(state, exchange, body)


PIPELINE = HubPipeline(answer, (SparseBody, RerankBody), (FEATURES, RERANKING))
