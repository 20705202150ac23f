"""What the routes for reranking take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.api import fields, schemas
from service.errors import InputError
from service.tasks.protocol import Direction
from service.tasks.text_inputs import malformed

_DOCUMENTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        ]
    },
}
_EXAMPLE: dict[str, Any] = {"query": "What do whales eat?", "documents": ["Krill.", "It rained."]}


class DocumentsBody(schemas.Body):
    """What POST /v1/rerank takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    query: str = Field(description="what the documents are compared with")
    documents: Annotated[
        Any,
        Field(description='texts, or objects `{"text": …}`', json_schema_extra=_DOCUMENTS),
    ]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    top_n: fields.CountOrAll | None = Field(
        None, description="how many to answer, the most relevant first; null or 0: all"
    )
    return_documents: fields.BoolOrWord | None = Field(
        None, description="answer the documents, too; null: as /v1 (yes) or /v2 (no) has it"
    )
    max_tokens_per_doc: fields.CountOrAll | None = Field(
        None, description="cut each document to this many tokens; null or 0: do not cut"
    )
    raw_scores: bool | None = Field(
        False, description="an extension: scores as the model has them, not from 0 to 1"
    )
    use_activation: bool | None = Field(None, description="vLLM's: false is raw_scores")
    truncate_prompt_tokens: fields.TokenLimit | None = Field(
        None, description=fields.ABOUT_TOKEN_LIMIT
    )
    truncation_side: Direction | None = Field(None, description=fields.ABOUT_SIDE)
    priority: fields.AnyPriority | None = Field(None, description=fields.ABOUT_PRIORITY)
    rank_fields: fields.NotOffered = Field(None, description="Cohere's (v1): null")
    relevant_spans: fields.NotOffered = Field(None, description="Cohere's: null")
    instruction: fields.NotOffered = Field(None, description="vLLM's: null")
    max_tokens_per_query: fields.NotOffered = Field(None, description="vLLM's: null or 0")


class RankedDocument(schemas.Shape):
    text: str


class RankedResult(schemas.Shape):
    index: int
    relevance_score: float
    document: RankedDocument | None = None  # where it was asked for


class RerankVersion(schemas.Shape):
    version: str


class RerankUnits(schemas.Shape):
    search_units: int


class RerankTokens(schemas.Shape):
    input_tokens: int
    output_tokens: int


class RerankMeta(schemas.Shape):
    api_version: RerankVersion
    billed_units: RerankUnits
    tokens: RerankTokens


class RerankAnswer(schemas.Shape):
    id: str
    object: Literal["rerank"]
    model: str
    created: int
    results: list[RankedResult]
    usage: schemas.Usage
    meta: RerankMeta


def texts_of(documents: object) -> list[str]:
    """Raises InputError."""
    if not isinstance(documents, list):
        raise malformed("documents", "a list of texts", documents)
    if not documents:
        rule = "is empty; at least one is needed"
        raise InputError(rule, field="documents", kind="empty")
    return [_text_of(each, f"documents[{place}]") for place, each in enumerate(documents)]


def _text_of(document: object, field: str) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        raise malformed(field, 'a text or an object {"text": …}', document)
    return text
