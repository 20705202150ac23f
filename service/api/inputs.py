"""The inputs of a request body: a text, a list of token ids, or a list of these. Shapes only."""

from __future__ import annotations

from typing import Any

from service.errors import Problem, quote

Input = str | list[int]

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


def parse(value: object, field: str, limit: int) -> list[Input]:
    """Raises Problem 400 for a wrong shape, 422 for none or more than `limit`, naming the field."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise Problem(
            400,
            f"{field}: must be a text, a list of token ids, or a list of these, not {_kind(value)}",
            param=field,
        )
    if not value:
        raise Problem(422, f"{field}: is empty; at least one is needed", param=field, code="empty")
    if type(value[0]) is int:
        return [_ids(value, field)]
    if len(value) > limit:
        raise Problem(
            422,
            f"{field}: {len(value)} inputs, and one request may bring at most {limit}",
            param=field,
            code="too_many_inputs",
        )
    return [
        one if isinstance(one, str) else _ids(one, f"{field}[{index}]")
        for index, one in enumerate(value)
    ]


def _ids(value: object, field: str) -> list[int]:
    if not isinstance(value, list):
        raise Problem(
            400, f"{field}: must be a text or a list of token ids, not {_kind(value)}", param=field
        )
    if not value:
        raise Problem(422, f"{field}: is an empty list of token ids", param=field, code="empty")
    for index, one in enumerate(value):
        if type(one) is not int:  # a bool is an int to isinstance
            raise Problem(
                400,
                f"{field}[{index}]: a token id must be an integer, not {_kind(one)}",
                param=field,
            )
    return value


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
