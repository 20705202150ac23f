"""POST /embed_all."""

from __future__ import annotations

from typing import Any

from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import TextBody
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.all_tokens import AllTokens, OneAnswer, write
from service.tasks.text_inputs import parse


class AllTokensBody(TextBody):
    """What POST /embed_all takes."""


async def embed_all(
    state: AppState, exchange: Exchange, given: dict[str, Any] | None = None
) -> None:
    """`given`: the body, where it has been read."""
    body = state.fields(AllTokensBody, await exchange.json() if given is None else given)
    task = await state.task(AllTokens)
    inputs = parse(body.inputs, "inputs", state.input_limit)
    options = body.options()
    results = await state.pipeline.run(
        exchange, OneAnswer(task), inputs, "inputs", options, body.priority
    )
    answer = await write(results.values)
    characters = sum(map(len, inputs))
    await exchange.answer(answer, *state.pipeline.timings(exchange, results, characters))


_NUMBERS = {"type": "array", "items": {"type": "number"}}
ROUTE = Route(
    "POST",
    "/embed_all",
    embed_all,
    "A vector for each token, in the format of text-embeddings-inference",
    {"type": "array", "items": {"type": "array", "items": _NUMBERS}},
    (*INFERENCE, 424),
    AllTokensBody,
    tasks=(AllTokens.name,),
)
