"""Ollama: its embeddings, and what its clients ask beside them.

Source: ollama/ollama, server/routes.go and api/types.go; ollama 0.6 of PyPI.
"""

from __future__ import annotations

from service.api import schemas
from service.api.ollama import embed, models
from service.api.routes import WireProtocol
from service.errors import BODY_400, ErrorFormat, Problem


class OllamaError(schemas.Shape):
    error: str
    code: str
    request_id: str


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {"error": problem.message, "code": problem.code, "request_id": request_id}


ERRORS = ErrorFormat(envelope, statuses=BODY_400, fields={"max_tokens": "options.num_ctx"})

PROTOCOL = WireProtocol(ERRORS, OllamaError, (*embed.ROUTES, *models.ROUTES), prefix="/api/")
