"""What the routes of text-embeddings-inference have in common: errors, and options of a text."""

from __future__ import annotations

from typing import Literal

from service.errors import ErrorFormat, Problem
from service.tasks.text_inputs import malformed

Direction = Literal["Right", "right", "Left", "left"]

ABOUT_TRUNCATE = "cut a text over the model's limit (the default), or refuse it with 422"
ABOUT_PROMPT_NAME = "must be null: there are no named prompts"
ABOUT_DIRECTION = "texts are cut on the right; left is refused with 422"


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {
        "error": problem.message,
        "error_type": "Empty" if problem.code == "empty" else _type_of(problem.status),
        "code": problem.code,
        "request_id": request_id,
    }


def _type_of(status: int) -> str:
    if status in (429, 503):
        return "Overloaded" if status == 429 else "Unhealthy"
    return "Backend" if status >= 500 or status == 424 else "Validation"


ERRORS = ErrorFormat(envelope, statuses={"empty": 400, "wrong_task": 424})


def check_direction(direction: Direction | None) -> None:
    if direction in ("Left", "left"):
        raise Problem(
            422, "truncation_direction: texts are cut on the right", param="truncation_direction"
        )


def check_prompt_name(name: str | None) -> None:
    if name is not None:
        raise Problem(422, "prompt_name: there are no named prompts here", param="prompt_name")


def texts_of(value: object, field: str) -> list[str]:
    """Raises Problem 400 where there is none, InputError."""
    if not isinstance(value, list):
        raise malformed(field, "a list of texts", value)
    if not value:
        raise Problem(400, f"`{field}` cannot be empty", param=field, code="empty")
    for place, text in enumerate(value):
        if not isinstance(text, str):
            raise malformed(f"{field}[{place}]", "a text", text)
    return value
