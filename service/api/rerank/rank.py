"""Documents sorted by their relevance to a query."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson

from service.api import fields, schemas
from service.api.openai import check_model
from service.api.rerank.body import DocumentsBody, texts_of
from service.catalog import AnyTask, ServedModel, wrong_task
from service.errors import InputError, WrongTask
from service.http.exchange import Exchange
from service.inference.ranking import (
    Question,
    earlier_first,
    relevance,
    retrieval_prompts,
    task_that_ranks,
)
from service.state import AppState
from service.tasks.score import Score
from service.tasks.text import TextTokenizer
from service.tasks.text_inputs import check_count


async def rank(
    state: AppState,
    exchange: Exchange,
    given: dict[str, Any] | None = None,
    *,
    version: str = "1",
    with_documents: bool = True,
) -> None:
    """`given`: the body, where it has been read. `with_documents`: where it does not say."""
    body = state.fields(DocumentsBody, await exchange.json() if given is None else given)
    served = state.model()
    check_model(served, body.model)
    task = await ranker(state)
    documents = texts = texts_of(body.documents)
    if body.max_tokens_per_doc:
        texts = await _shortened(state, exchange, documents, body.max_tokens_per_doc)
    scores, results = await relevance(
        state.pipeline,
        exchange,
        task,
        Question(body.query, texts, prompts=retrieval_prompts(served.prompts)),
        state.input_limit,
        fields.truncation(body.truncate_prompt_tokens, body.truncation_side),
        body.priority,
        raw=bool(body.raw_scores) or body.use_activation is False,
    )
    rows: list[dict[str, object]] = []
    for place in earlier_first(scores)[: body.top_n or None]:
        rows.append({"index": place, "relevance_score": scores[place]})
        if with_documents if body.return_documents is None else body.return_documents:
            rows[-1]["document"] = {"text": documents[place]}
    answer = _written(served, exchange.request_id.decode(), version, rows, results.cost)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


async def ranker(state: AppState) -> AnyTask:
    """The task that ranks. Raises NotReady, WrongTask."""
    task = task_that_ranks(state.tasks)
    if task is None:
        tasks = (await state.decided()).tasks
        task = task_that_ranks(tasks)
        if task is None:
            raise WrongTask(wrong_task(Score.name, tasks))
    return task


async def _shortened(
    state: AppState, exchange: Exchange, documents: Sequence[str], tokens: int
) -> list[str]:
    check_count(len(documents), "documents", state.input_limit)
    tokenizer = state.model().tokenizer
    if tokenizer is None:
        rule = "this model gets whole texts: without a tokenizer they cannot be cut to a length"
        raise InputError(rule, field="max_tokens_per_doc")
    deadline = exchange.started + exchange.timeout
    return await state.offload.run(
        deadline, _cut, tokenizer, documents, tokens, caller=exchange.caller
    )


def _cut(tokenizer: TextTokenizer, documents: Sequence[str], tokens: int) -> list[str]:
    cut = []
    for place, document in enumerate(documents):
        try:
            cut.append(tokenizer.beginning(document, tokens))
        except InputError as error:
            raise error.at(f"documents[{place}]") from None
    return cut


def _written(
    served: ServedModel, request_id: str, version: str, rows: list[dict[str, object]], tokens: int
) -> bytes:
    return orjson.dumps(
        {
            "id": f"rerank-{request_id}",
            "object": "rerank",
            "model": served.name,
            "created": int(time.time()),
            "results": rows,
            "usage": schemas.usage(tokens),
            "meta": {
                "api_version": {"version": version},
                "billed_units": {"search_units": 1},
                "tokens": {"input_tokens": tokens, "output_tokens": 0},
            },
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
