"""POST /infinity/rerank. A document is answered as a bare text, so it is not POST /rerank's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.api import openai, schemas
from service.api.infinity.envelope import PREFIX, answer, model_name
from service.api.rerank.rank import ranker
from service.api.routes import INFERENCE, Route
from service.http.exchange import Exchange
from service.inference.ranking import RANKERS, Question, earlier_first, relevance, retrieval_prompts
from service.state import AppState
from service.tasks.text_inputs import parse_list


class InfinityRerankBody(schemas.Body):
    """What POST /infinity/rerank takes."""

    query: str = Field(description="what the documents are compared with")
    documents: Annotated[
        Any, Field(description="the texts to sort", json_schema_extra=schemas.TEXTS)
    ]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    top_n: schemas.Count | None = Field(None, description="how many to answer; null: all")
    return_documents: bool | None = Field(False, description="answer the texts, too")
    raw_scores: bool | None = Field(False, description="as the model has them, not from 0 to 1")
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


class InfinityRank(schemas.Shape):
    relevance_score: float
    index: int
    document: str | None = None  # where it was asked for


class InfinityRanks(schemas.Shape):
    object: Literal["rerank"]
    results: list[InfinityRank]
    model: str
    usage: schemas.Usage
    id: str
    created: int


async def rerank(state: AppState, exchange: Exchange) -> None:
    body = state.fields(InfinityRerankBody, await exchange.json())
    served = state.model()
    openai.check_model(served, model_name(body.model))
    task = await ranker(state)
    documents = parse_list(body.documents, "documents")
    scores, results = await relevance(
        state.pipeline,
        exchange,
        task,
        Question(body.query, documents, prompts=retrieval_prompts(served.prompts)),
        state.input_limit,
        priority=body.priority,
        raw=bool(body.raw_scores),
    )
    rows: list[dict[str, object]] = []
    for place in earlier_first(scores)[: body.top_n]:
        rows.append({"relevance_score": scores[place], "index": place})
        if body.return_documents:
            rows[-1]["document"] = documents[place]
    await answer(state, exchange, served, {"object": "rerank", "results": rows}, results)


ROUTE = Route(
    "POST",
    f"{PREFIX}/rerank",
    rerank,
    "Documents sorted by their relevance to a query, in Infinity's format",
    InfinityRanks,
    INFERENCE,
    InfinityRerankBody,
    tasks=tuple(RANKERS),
)
