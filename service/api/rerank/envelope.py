"""Errors of reranking, as the clients read them: Cohere's `message`, Jina's `detail`, vLLM's
`error`."""

from __future__ import annotations

from service.api import fields, openai, schemas
from service.errors import BODY_400, ErrorFormat, Problem


class RerankError(schemas.Shape):
    error: schemas.OpenAIErrorDetails
    message: str
    detail: str


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    told = openai.envelope(problem, request_id)
    return {**told, "message": problem.message, "detail": problem.message}


ERRORS = ErrorFormat(envelope, statuses=BODY_400, fields=fields.VLLM_NAMES)
