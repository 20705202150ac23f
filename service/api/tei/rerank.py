"""POST /rerank."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field

from service.api import schemas
from service.api.rerank.body import DocumentsBody, RerankAnswer
from service.api.rerank.envelope import ERRORS as DOCUMENTS_ERRORS
from service.api.rerank.envelope import RerankError
from service.api.rerank.rank import rank, ranker
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import (
    ABOUT_DIRECTION,
    ABOUT_TRUNCATE,
    Direction,
    options_of,
)
from service.errors import InputError
from service.http.exchange import Exchange
from service.inference.ranking import (
    RANKERS,
    Question,
    ranked,
    relevance,
    retrieval_prompts,
)
from service.state import AppState
from service.tasks.text_inputs import parse_list

_ABOUT_RAW = (
    "the cross-encoder's logits, the cosines of an embedder or the dot products of a sparse"
    " encoder, instead of scores from 0 to 1"
)
_EXAMPLE: dict[str, Any] = {"query": "What do whales eat?", "texts": ["Krill.", "It rained."]}


class RerankBody(schemas.Body):
    """What POST /rerank takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    query: str = Field(description="what the texts are compared with")
    texts: Annotated[Any, Field(description="the texts to sort", json_schema_extra=schemas.TEXTS)]
    raw_scores: bool | None = Field(False, description=_ABOUT_RAW)
    return_text: bool | None = Field(False, description="answer the texts, too")
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


async def rerank(state: AppState, exchange: Exchange, given: dict[str, Any] | None = None) -> None:
    """`given`: the body, where it has been read. With `documents` it is of Cohere, Jina or vLLM."""
    if given is None:
        given = await exchange.json()
    if given.get("documents") is not None:
        if given.get("texts") is not None:
            rule = "takes either `texts` or `documents`, not both"
            raise InputError(rule, field="documents", kind="invalid_request")
        exchange.error_format = DOCUMENTS_ERRORS
        await rank(state, exchange, given)
        return
    body = state.fields(RerankBody, given)
    texts = parse_list(body.texts, "texts")
    task = await ranker(state)
    scores, results = await relevance(
        state.pipeline,
        exchange,
        task,
        Question(body.query, texts, ("query", "texts"), retrieval_prompts(state.model().prompts)),
        state.input_limit,
        options_of(body.truncate, body.truncation_direction),
        body.priority,
        raw=bool(body.raw_scores),
    )
    rows = [{"index": place, "score": scores[place]} for place in ranked(scores)]
    if body.return_text:
        rows = [{**row, "text": texts[row["index"]]} for row in rows]
    told = orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)
    # The query counts with each text, as text-embeddings-inference has it.
    characters = len(body.query) * len(texts) + sum(map(len, texts))
    await exchange.answer(told, *state.pipeline.timings(exchange, results, characters))


ROUTE = Route(
    "POST",
    "/rerank",
    rerank,
    "Texts sorted by their relevance to a query, in the format of text-embeddings-inference; with"
    " `documents` in that of POST /v1/rerank",
    {
        "anyOf": [
            {"type": "array", "items": schemas.ref(schemas.Rank)},
            schemas.ref(RerankAnswer),
        ]
    },
    (*INFERENCE, 424),
    bodies=dict.fromkeys(RANKERS, (RerankBody, DocumentsBody)),
    more_errors=(RerankError,),
    tasks=tuple(RANKERS),
)
