"""What the bodies and the answers of vLLM's routes have in common."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field

from service.api import fields, schemas
from service.http.exchange import Exchange
from service.inference.pipeline import Results
from service.state import AppState
from service.tasks.protocol import Direction, Options
from service.tasks.text_inputs import whole


def _nearest(priority: int) -> int:
    return min(max(priority, 0), 7)


TEXTS: dict[str, Any] = {"anyOf": [{"type": "string"}, schemas.TEXTS]}


class VllmBody(schemas.Body):
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    user: str | None = Field(None, description="accepted and ignored")
    truncate_prompt_tokens: fields.TokenLimit | None = Field(
        None, description=fields.ABOUT_TOKEN_LIMIT
    )
    truncation_side: Direction | None = Field(None, description=fields.ABOUT_SIDE)
    add_special_tokens: fields.OnlyTrue = Field(True, description="not offered otherwise")
    normalize: fields.NotOffered = Field(
        None, description="of older clients, as are the next two: `use_activation` is its name now"
    )
    activation: fields.NotOffered = None
    softmax: fields.NotOffered = None
    padding: Literal["do_not_pad"] | None = Field(None, description="not offered otherwise")
    use_activation: bool | None = Field(
        None, description="false: what the model gives, without sigmoid, softmax or normalisation"
    )
    priority: Annotated[int, AfterValidator(_nearest), BeforeValidator(whole)] | None = Field(
        None, description="0 and less is soonest, 7 and more last; null: as the Priority header"
    )

    @property
    def options(self) -> Options:
        return fields.truncation(self.truncate_prompt_tokens, self.truncation_side)

    @property
    def is_raw(self) -> bool:
        return self.use_activation is False


class VllmAnswer(schemas.Shape):
    """Its `data` are the route's own."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    usage: schemas.Usage


async def answer(
    state: AppState,
    exchange: Exchange,
    name: str,  # of the route
    data: Sequence[object] | orjson.Fragment,
    results: Results[Any],
) -> None:
    told = {
        "id": f"{name}-{exchange.request_id.decode()}",
        "object": "list",
        "created": int(time.time()),
        "model": state.model().name,
        "data": data,
        "usage": schemas.usage(results.cost),
    }
    written = orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(written, state.pipeline.timing(exchange, results))
