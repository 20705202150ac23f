"""POST /score and POST /v1/score: how relevant texts are to others, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.api import fields, schemas
from service.api.openai import check_model
from service.api.rerank.rank import ranker
from service.api.routes import INFERENCE, Route
from service.api.vllm.common import TEXTS, VllmAnswer, VllmBody, answer
from service.errors import InputError
from service.http.exchange import Exchange
from service.inference.ranking import (
    RANKERS,
    Question,
    relevance_of_all,
    retrieval_prompts,
)
from service.state import AppState
from service.tasks.embed import Embed
from service.tasks.text_inputs import parse_texts

# The two sides, as older and newer clients call them.
NAMES = (
    ("text_1", "text_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
)
_SIDES = tuple(dict.fromkeys(name for names in NAMES for name in names))
_NO_MORE = {"type": "null"}
_SCHEMA: dict[str, Any] = {
    "examples": [{"text_1": "What do whales eat?", "text_2": ["Krill.", "It rained."]}],
    "oneOf": [
        {
            "required": [*names],
            "properties": {name: TEXTS if name in names else _NO_MORE for name in _SIDES},
        }
        for names in NAMES
    ],
}

Side = Annotated[Any, Field(None, json_schema_extra={"anyOf": [TEXTS, {"type": "null"}]})]


class VllmScoreBody(VllmBody):
    """What POST /score takes. One text is compared with each of several, or each with the one in
    its place."""

    model_config = ConfigDict(json_schema_extra=_SCHEMA)

    text_1: Side
    text_2: Side
    queries: Side
    documents: Side
    items: Side
    data_1: Side
    data_2: Side
    instruction: fields.NotOffered = None
    max_tokens_per_query: fields.NotOffered = None
    max_tokens_per_doc: fields.NotOffered = Field(None, description="POST /v1/rerank takes it")


class VllmScoreRow(schemas.Shape):
    index: int
    object: Literal["score"]
    score: float = Field(
        description="of a cross-encoder from 0 to 1, of an embedder the cosine, from -1 to 1"
    )


class VllmScores(VllmAnswer):
    data: list[VllmScoreRow]


async def score(state: AppState, exchange: Exchange) -> None:
    body = state.fields(VllmScoreBody, await exchange.json())
    served = state.model()
    check_model(served, body.model)
    task = await ranker(state)
    prompts = retrieval_prompts(served.prompts)
    scores, results = await relevance_of_all(
        state.pipeline,
        exchange,
        task,
        _questions(body, state.input_limit, prompts),
        state.input_limit,
        body.options,
        body.priority,
        raw=body.is_raw or task.name == Embed.name,  # vLLM does not raise cosines below 0
    )
    rows = [{"index": place, "object": "score", "score": each} for place, each in enumerate(scores)]
    await answer(state, exchange, "score", rows, results)


def _questions(
    body: VllmScoreBody, limit: int, prompts: tuple[str, str] | None
) -> Sequence[Question]:
    """Raises InputError."""
    given = {name for name in _SIDES if getattr(body, name) is not None}
    names = next((names for names in NAMES if given == {*names}), None)
    if names is None:
        ways = ", ".join(" and ".join(names) for names in NAMES)
        has = " and ".join(name for name in _SIDES if name in given) or "none of them"
        rule = f"is one of two fields that belong together: give {ways}; here is {has}"
        raise InputError(rule, field=next(iter(sorted(given)), "text_1"), kind="invalid_request")
    first, second = names
    ones = parse_texts(getattr(body, first), first, limit)
    others = parse_texts(getattr(body, second), second, limit)
    if len(ones) == 1:
        return [Question(ones[0], others, names, prompts)]
    if len(ones) != len(others):
        rule = f"has {len(others)} texts for the {len(ones)} of {first}; give one, or as many"
        raise InputError(rule, field=second, kind="invalid_request")
    return [
        Question(one, [other], (f"{first}[{place}]", second), prompts, place)
        for place, (one, other) in enumerate(zip(ones, others, strict=True))
    ]


ROUTES = tuple(
    Route(
        "POST",
        path,
        score,
        "How relevant texts are to a text, or to one each, in vLLM's format",
        VllmScores,
        INFERENCE,
        VllmScoreBody,
        tasks=tuple(RANKERS),
    )
    for path in ("/score", "/v1/score")
)
