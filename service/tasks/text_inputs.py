"""The inputs of a request body: a text, a list of token ids, or a list of these. Shapes only."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from service.errors import Problem, quote

Input = str | list[int]


def whole(value: object) -> object:
    """JSON has one kind of number: 8.0 is an integer (JSON Schema, validation, section 6.1.1)."""
    return int(value) if type(value) is float and value.is_integer() else value


Count = Annotated[int, Field(ge=1), BeforeValidator(whole)]
Priority = Annotated[int, Field(ge=0, le=7), BeforeValidator(whole)]

ABOUT_PRIORITY = (
    "an extension: 0 is soonest, 3 the default, 7 last; 4 to 7 fill what 0 to 3 leave."
    " It wins over the Priority header"
)

SCHEMA: dict[str, Any] = {
    "description": "A text, a list of token ids, or a list of these.",
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                ]
            },
        },
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
    ],
}


def parse(value: object, field: str, limit: int, empty: int = 422) -> list[Input]:
    """Raises Problem 400 for a wrong shape, `empty` for none, 422 for more than `limit`, naming
    the field. Token ids are not looked at one by one: whoever prepares them does."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise Problem(
            400,
            f"{field}: must be a text, a list of token ids, or a list of these, not {_kind(value)}",
            param=field,
        )
    if not value:
        raise Problem(
            empty, f"{field}: is empty; at least one is needed", param=field, code="empty"
        )
    if type(value[0]) in (int, float):
        return [_ids(value, field, empty)]
    if len(value) > limit:
        raise Problem(
            422,
            f"{field}: {len(value)} inputs, and one request may bring at most {limit}",
            param=field,
            code="too_many_inputs",
        )
    return [
        one if isinstance(one, str) else _ids(one, f"{field}[{index}]", empty)
        for index, one in enumerate(value)
    ]


def _ids(value: object, field: str, empty: int) -> list[int]:
    if not isinstance(value, list):
        raise Problem(
            400, f"{field}: must be a text or a list of token ids, not {_kind(value)}", param=field
        )
    if not value:
        raise Problem(empty, f"{field}: is an empty list of token ids", param=field, code="empty")
    return value


def no_id(field: str, position: int, value: object) -> Problem:
    """For a token id that is no integer."""
    return Problem(
        400,
        f"{field}: token {position} must be an integer, not {_kind(value)}",
        param=field,
    )


def _kind(value: object) -> str:
    """What JSON calls it, with the value where that is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {quote(value, 30)}"
    if isinstance(value, str):
        return f"the text {quote(value, 30)}"
    return "a list" if isinstance(value, list) else "an object"
