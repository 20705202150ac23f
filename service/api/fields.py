"""Kinds of fields that other services' bodies have, beside those of schemas.py."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

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


CountOrAll = Annotated[int, Field(ge=0), BeforeValidator(whole)]
AnyPriority = Annotated[int, Field(ge=0), AfterValidator(_at_most_last), BeforeValidator(whole)]
BoolOrWord = Annotated[bool, BeforeValidator(_from_word)]

# What would change the meaning of an answer, and is null or left out as a rule.
NotOffered = Annotated[
    Any, AfterValidator(_not_offered), Field(json_schema_extra={"enum": [*_NOTHING]})
]

ABOUT_PRIORITY = (
    "0 is soonest, 3 the default, 7 and all above it last; it wins over the Priority header"
)
