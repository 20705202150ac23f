"""POST /decode. The model itself is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field

from service.api import schemas
from service.api.routes import TOKENIZER, Route
from service.errors import InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.text import TextTokenizer
from service.tasks.text_inputs import MANY_IDS, check_count, malformed, whole
from service.tasks.tokens import decode as decode_ids

_ONE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_IDS = {"anyOf": [_ONE, {"type": "array", "items": _ONE, "minItems": 1}]}
_EXAMPLE: dict[str, Any] = {"ids": [1, 2]}


class DecodeBody(schemas.Body):
    """What POST /decode takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    ids: Annotated[
        Any, Field(description="token ids, or a list of lists of these", json_schema_extra=_IDS)
    ]
    skip_special_tokens: bool | None = Field(True, description="leave out such as [CLS]")


async def decode(state: AppState, exchange: Exchange) -> None:
    body = state.fields(DecodeBody, await exchange.json())
    tokenizer = state.tokenizer()
    sequences = _sequences(body.ids, state.input_limit)
    given = (tokenizer, sequences, body.skip_special_tokens is not False)
    if sum(map(len, sequences)) > MANY_IDS:
        deadline = exchange.started + exchange.timeout
        told = await state.offload.run(deadline, _answer, *given, caller=exchange.caller)
    else:
        told = _answer(*given)
    await exchange.answer(told)


def _sequences(value: object, limit: int) -> list[list[Any]]:
    """The ids are not looked at yet. Raises InputError."""
    if not isinstance(value, list):
        raise malformed("ids", "a list of token ids, or a list of these", value)
    if not value:
        raise InputError("is empty; at least one is needed", field="ids", kind="empty")
    if not isinstance(value[0], list):
        return [value]
    check_count(len(value), "ids", limit)
    for place, one in enumerate(value):
        if not isinstance(one, list):
            raise malformed(f"ids[{place}]", "a list of token ids", one)
        if not one:
            raise InputError("is empty", field=f"ids[{place}]", kind="empty")
    return value


def _answer(
    tokenizer: TextTokenizer, sequences: Sequence[Sequence[Any]], skip_special_tokens: bool
) -> bytes:
    """Raises InputError."""
    texts = []
    for place, ids in enumerate(sequences):
        try:
            integers: Any = list(map(whole, ids))
            texts.append(
                decode_ids(tokenizer.library, integers, skip_special_tokens=skip_special_tokens)
            )
        except InputError as error:
            raise error.at(f"ids[{place}]" if len(sequences) > 1 else "ids") from None
    return orjson.dumps(texts)


ROUTE = Route(
    "POST",
    "/decode",
    decode,
    "Texts from token ids, in the format of text-embeddings-inference",
    {"type": "array", "items": {"type": "string"}},
    TOKENIZER,
    DecodeBody,
    needs_tokenizer=True,
)
