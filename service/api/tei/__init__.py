"""The protocol of Hugging Face text-embeddings-inference, a file for each route."""

from __future__ import annotations

from service.api import schemas
from service.api.routes import WireProtocol
from service.api.tei import embed, info, predict
from service.api.tei.envelope import ERRORS as ERRORS

PROTOCOL = WireProtocol(
    ERRORS, schemas.TEIError, (embed.ROUTE, predict.ROUTE, info.ROUTE), prefix="/"
)
