"""POST /rerank."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from service.api import schemas
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import (
    ABOUT_DIRECTION,
    ABOUT_TRUNCATE,
    Direction,
    options_of,
    texts_of,
)
from service.catalog import AnyTask, wrong_task
from service.errors import WrongTask
from service.http.exchange import Exchange
from service.inference.ranking import (
    RANKERS,
    Question,
    ranked,
    relevance,
    retrieval_prompts,
    task_that_ranks,
)
from service.state import AppState
from service.tasks.score import Score

_ABOUT_RAW = (
    "the cross-encoder's logits, the cosines of an embedder or the dot products of a sparse"
    " encoder, instead of scores from 0 to 1"
)
_EXAMPLE: dict[str, Any] = {"query": "What do whales eat?", "texts": ["Krill.", "It rained."]}


class RerankBody(BaseModel):
    """What POST /rerank takes."""

    model_config = ConfigDict(
        extra="ignore", strict=True, json_schema_extra={"examples": [_EXAMPLE]}
    )

    query: str = Field(description="what the texts are compared with")
    texts: Annotated[Any, Field(description="the texts to sort", json_schema_extra=schemas.TEXTS)]
    raw_scores: bool | None = Field(False, description=_ABOUT_RAW)
    return_text: bool | None = Field(False, description="answer the texts, too")
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


async def ranker(state: AppState) -> AnyTask:
    """Raises NotReady, WrongTask."""
    task = task_that_ranks(state.tasks)
    if task is None:
        tasks = (await state.decided()).tasks
        task = task_that_ranks(tasks)
        if task is None:
            raise WrongTask(wrong_task(Score.name, tasks))
    return task


async def rerank(state: AppState, exchange: Exchange, given: dict[str, Any] | None = None) -> None:
    """`given`: the body, where it has been read."""
    body = state.fields(RerankBody, await exchange.json() if given is None else given)
    texts = texts_of(body.texts, "texts")
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
    "Texts sorted by their relevance to a query, in the format of text-embeddings-inference",
    {"type": "array", "items": schemas.ref(schemas.Rank)},
    (*INFERENCE, 424),
    RerankBody,
    tasks=tuple(RANKERS),
)
