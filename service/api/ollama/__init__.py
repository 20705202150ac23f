"""Ollama: its embeddings, and what its clients ask beside them.

Source: ollama/ollama, server/routes.go and api/types.go; ollama 0.6 of PyPI.
"""

from __future__ import annotations

from service.api import schemas
from service.api.ollama import embed, models
from service.api.routes import WireProtocol
from service.errors import ErrorFormat, Problem


class OllamaError(schemas.Shape):
    error: str
    code: str
    request_id: str


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {"error": problem.message, "code": problem.code, "request_id": request_id}


# Ollama answers 400 to all that is wrong with a body.
ERRORS = ErrorFormat(
    envelope,
    statuses=dict.fromkeys(("empty", "too_many_inputs", "unacceptable_input"), 400),
)

PROTOCOL = WireProtocol(ERRORS, OllamaError, (*embed.ROUTES, *models.ROUTES), prefix="/api/")
