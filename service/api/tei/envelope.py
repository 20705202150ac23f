"""What the routes of text-embeddings-inference have in common: errors, and options of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.api import schemas
from service.errors import ErrorFormat, Problem
from service.tasks import protocol as tasks
from service.tasks.protocol import Options
from service.tasks.text_inputs import malformed

Direction = Literal["Right", "right", "Left", "left"]

ABOUT_TRUNCATE = "cut a text over the model's limit (the default), or refuse it with 422"
ABOUT_DIRECTION = "the end that is cut off a text over the limit; the default is the model's own"


def options_of(
    truncate: bool | None, direction: Direction | None, prompt_name: str | None = None
) -> Options:
    side = None if direction is None else _SIDES[direction]
    return Options(truncate is not False, side, prompt_name)


class TextBody(BaseModel):
    """Of a route for texts that has no options of its own. Unknown fields are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra={"examples": [{"inputs": "What do whales eat?"}]},
    )

    inputs: Annotated[Any, Field(json_schema_extra=schemas.TEXT_INPUTS)]
    truncate: bool | None = Field(None, description=ABOUT_TRUNCATE)
    truncation_direction: Direction | None = Field(None, description=ABOUT_DIRECTION)
    prompt_name: str | None = Field(None, description=schemas.ABOUT_PROMPT)
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)

    def options(self) -> Options:
        return options_of(self.truncate, self.truncation_direction, self.prompt_name)


_SIDES: Mapping[Direction, tasks.Direction] = {
    "Left": "left",
    "left": "left",
    "Right": "right",
    "right": "right",
}


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
