"""Kinds of fields that other services' bodies have, beside those of schemas.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from service.api import schemas
from service.tasks.protocol import Direction, Options
from service.tasks.text_inputs import whole


def _at_most_last(priority: int) -> int:
    return min(priority, 7)


# What a client may send for a field that its caller has not set.
_NOTHING = (None, 0, "")


def _not_offered(value: object) -> None:
    if value is False or value not in _NOTHING:
        raise PydanticCustomError("not_offered", "is not offered here; leave it out")


def _from_word(value: object) -> object:
    """Xinference's clients, RAGFlow's among them, send the word."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _token_limit(tokens: int) -> int:
    if tokens == 0 or tokens < -1:
        raise PydanticCustomError("limit", "must be -1, or at least 1")
    return tokens


def _boolean(value: object) -> object:
    """Pydantic takes 1 where a Literal says True."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise PydanticCustomError("boolean", "must be a boolean")
    return value


# Of a boolean field, the value that is offered.
OnlyTrue = Annotated[Literal[True] | None, BeforeValidator(_boolean)]
OnlyFalse = Annotated[Literal[False] | None, BeforeValidator(_boolean)]
CountOrAll = Annotated[int, Field(ge=0), BeforeValidator(whole)]
AnyPriority = Annotated[int, Field(ge=0), AfterValidator(_at_most_last), BeforeValidator(whole)]
BoolOrWord = Annotated[bool, BeforeValidator(_from_word)]

# What would change the meaning of an answer, and is null or left out as a rule.
NotOffered = Annotated[
    Any, AfterValidator(_not_offered), Field(json_schema_extra={"enum": [*_NOTHING]})
]

# vLLM's: tokens, special ones included, beyond which an input is cut; -1: the model's limit.
TokenLimit = Annotated[
    int,
    AfterValidator(_token_limit),
    BeforeValidator(whole),
    Field(json_schema_extra={"anyOf": [{"const": -1}, {"minimum": 1}]}),
]
VLLM_NAMES: Mapping[str, str] = {
    "max_tokens": "truncate_prompt_tokens",
    "truncation_direction": "truncation_side",
}
"""What vLLM calls the fields of Options."""
ABOUT_TOKEN_LIMIT = (
    "vLLM's: tokens of an input, special ones included, beyond which it is cut; null and -1: the"
    " model's limit"
)
ABOUT_SIDE = "vLLM's: the end that is cut off a text over the limit; null: the model's own"


def truncation(limit: int | None, side: Direction | None) -> Options:
    """As vLLM's clients ask for it."""
    return Options(truncation_direction=side, max_tokens=None if limit == -1 else limit)


ABOUT_DIMENSIONS = f"{schemas.ABOUT_DIMENSIONS}; 0: all"
ABOUT_PRIORITY = (
    "0 is soonest, 3 the default, 7 and all above it last; it wins over the Priority header"
)
