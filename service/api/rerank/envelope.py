"""Errors of reranking, as the clients read them: Cohere's `message`, Jina's `detail`, vLLM's
`error`."""

from __future__ import annotations

from service.api import openai, schemas
from service.errors import ErrorFormat, Problem


class RerankError(schemas.Shape):
    error: schemas.OpenAIErrorDetails
    message: str
    detail: str


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    told = openai.envelope(problem, request_id)
    return {**told, "message": problem.message, "detail": problem.message}


# All three answer 400 to a list that is empty or too long.
ERRORS = ErrorFormat(envelope, statuses={"empty": 400, "too_many_inputs": 400})
