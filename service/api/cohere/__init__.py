"""Cohere: its embeddings.

Sources: the client of PyPI, cohere 7.3; the packed types as sentence-transformers quantises.
"""

from __future__ import annotations

from service.api import schemas
from service.api.cohere import embed
from service.api.routes import WireProtocol
from service.errors import BODY_400, ErrorFormat, Problem


class CohereError(schemas.Shape):
    id: str
    message: str
    code: str


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {"id": request_id, "message": problem.message, "code": problem.code}


ERRORS = ErrorFormat(
    envelope,
    statuses=BODY_400,
    fields={"dimensions": "output_dimension", "truncation_direction": "truncate"},
)

PROTOCOL = WireProtocol(ERRORS, CohereError, embed.ROUTES)
