"""Reranking as Cohere, Jina and vLLM have it: one answer that clients of all three read.

POST /rerank is in service/api/tei/, which passes on the bodies that are meant for this one.
Sources: cohere 7.3 of PyPI; vllm-project/vllm, entrypoints/pooling/scoring/protocol.py.
"""

from __future__ import annotations

from functools import partial

from service.api.rerank.body import DocumentsBody, RerankAnswer
from service.api.rerank.envelope import ERRORS, RerankError
from service.api.rerank.rank import rank
from service.api.routes import INFERENCE, Route, WireProtocol
from service.inference.ranking import RANKERS


def _route(version: str, named: str, *, with_documents: bool) -> Route:
    return Route(
        "POST",
        f"/v{version}/rerank",
        partial(rank, version=version, with_documents=with_documents),
        f"Documents sorted by their relevance to a query, in the format of {named}",
        RerankAnswer,
        INFERENCE,
        DocumentsBody,
        tasks=tuple(RANKERS),
    )


PROTOCOL = WireProtocol(
    ERRORS,
    RerankError,
    (
        _route("1", "Cohere (v1), Jina and vLLM", with_documents=True),
        _route("2", "Cohere (v2)", with_documents=False),
    ),
)
