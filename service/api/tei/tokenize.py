"""POST /tokenize. The model itself is not asked."""

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
from service.tasks.cutting import MOST_CHARACTERS
from service.tasks.text import TextTokenizer
from service.tasks.text_inputs import LONG_TEXT, parse_texts
from service.tasks.tokens import tokens_of

_PIECE = 4096  # tokens that are written at once, and hold the interpreter lock as long
_INPUTS = {"anyOf": [{"type": "string"}, schemas.TEXTS]}
_EXAMPLE: dict[str, Any] = {"inputs": "What do whales eat?"}


class TokenizeBody(schemas.Body):
    """What POST /tokenize takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    inputs: Annotated[
        Any, Field(description="a text, or a list of texts", json_schema_extra=_INPUTS)
    ]
    add_special_tokens: bool | None = Field(True, description="as the model is given them")
    prompt_name: str | None = Field(None, description=schemas.ABOUT_PROMPT)


async def tokenize(state: AppState, exchange: Exchange) -> None:
    body = state.fields(TokenizeBody, await exchange.json())
    tokenizer = state.tokenizer()
    prompt = tokenizer.prompt(body.prompt_name)
    texts = parse_texts(body.inputs, "inputs", state.input_limit)
    characters = sum(map(len, texts))
    if characters > MOST_CHARACTERS:
        rule = f"{characters} characters; one request may have at most {MOST_CHARACTERS}"
        raise InputError(rule, field="inputs", kind="too_many_inputs")
    given = (tokenizer, prompt, texts, body.add_special_tokens is not False)
    if characters > LONG_TEXT:
        deadline = exchange.started + exchange.timeout
        told = await state.offload.run(deadline, _answer, *given, caller=exchange.caller)
    else:
        told = _answer(*given)
    await exchange.answer(told)


def _answer(
    tokenizer: TextTokenizer, prompt: str, texts: Sequence[str], add_special_tokens: bool
) -> bytes:
    """Raises InputError."""
    written = []
    for place, text in enumerate(texts):
        try:
            written.append(_written(tokenizer, prompt + text, add_special_tokens))
        except InputError as error:
            raise error.at(f"inputs[{place}]" if len(texts) > 1 else "inputs") from None
    return b"[" + b",".join(written) + b"]"


def _written(tokenizer: TextTokenizer, text: str, add_special_tokens: bool) -> bytes:
    pieces, rows = [], list[dict[str, object]]()
    for token in tokens_of(tokenizer.library, text, add_special_tokens=add_special_tokens):
        rows.append(
            {
                "id": token.id,
                "text": token.text,
                "special": token.is_special,
                "start": token.start,
                "stop": token.stop,
            }
        )
        if len(rows) == _PIECE:
            pieces.append(orjson.dumps(rows)[1:-1])
            rows = []
    if rows:
        pieces.append(orjson.dumps(rows)[1:-1])
    return b"[" + b",".join(pieces) + b"]"


ROUTE = Route(
    "POST",
    "/tokenize",
    tokenize,
    "The tokens of texts, in the format of text-embeddings-inference",
    {
        "type": "array",
        "items": {"type": "array", "items": schemas.ref(schemas.TokenDetails)},
    },
    TOKENIZER,
    TokenizeBody,
    needs_tokenizer=True,
)
