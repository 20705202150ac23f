"""The protocol of Hugging Face text-embeddings-inference, a file for each route."""

from __future__ import annotations

from service.api import schemas
from service.api.routes import WireProtocol
from service.api.tei import (
    decode,
    embed,
    embed_all,
    embed_sparse,
    info,
    predict,
    rerank,
    similarity,
    tokenize,
)
from service.api.tei.envelope import ERRORS as ERRORS

PROTOCOL = WireProtocol(
    ERRORS,
    schemas.TEIError,
    (
        embed.ROUTE,
        embed_all.ROUTE,
        embed_sparse.ROUTE,
        predict.ROUTE,
        rerank.ROUTE,
        similarity.ROUTE,
        tokenize.ROUTE,
        decode.ROUTE,
        info.ROUTE,
    ),
    prefix="/",
)
