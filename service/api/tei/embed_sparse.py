"""POST /embed_sparse."""

from __future__ import annotations

from typing import Any

from service.api import schemas
from service.api.routes import INFERENCE, Route
from service.api.tei.envelope import TextBody
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.sparse import Sparse, write
from service.tasks.text_inputs import parse


class SparseBody(TextBody):
    """What POST /embed_sparse takes."""


async def embed_sparse(
    state: AppState, exchange: Exchange, given: dict[str, Any] | None = None
) -> None:
    """`given`: the body, where it has been read."""
    body = state.fields(SparseBody, await exchange.json() if given is None else given)
    task = await state.task(Sparse)
    inputs = parse(body.inputs, "inputs", state.input_limit)
    options = body.options()
    results = await state.pipeline.run(exchange, task, inputs, "inputs", options, body.priority)
    answer = await write(results.values)
    characters = sum(map(len, inputs))
    await exchange.answer(answer, *state.pipeline.timings(exchange, results, characters))


ROUTE = Route(
    "POST",
    "/embed_sparse",
    embed_sparse,
    "Sparse embeddings (SPLADE), in the format of text-embeddings-inference",
    {
        "type": "array",
        "items": {"type": "array", "items": schemas.ref(schemas.SparseValue)},
    },
    (*INFERENCE, 424),
    SparseBody,
    tasks=(Sparse.name,),
)
