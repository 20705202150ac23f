"""What the routes of text-embeddings-inference have in common: errors, and options of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from batcher import Overloaded
from service.api import schemas
from service.errors import ErrorFormat, InputError, KnownError, Problem
from service.tasks import protocol as tasks
from service.tasks.input_errors import (
    NotPositive,
    TextTooLong,
    TooManyDimensions,
    TooManyInputs,
)
from service.tasks.protocol import Options

Direction = Literal["Right", "right", "Left", "left"]

ABOUT_TRUNCATE = "cut a text over the model's limit (the default), or refuse it with 422"
ABOUT_DIRECTION = "the end that is cut off a text over the limit; the default is the model's own"


def options_of(
    truncate: bool | None, direction: Direction | None, prompt_name: str | None = None
) -> Options:
    side = None if direction is None else _SIDES[direction]
    return Options(truncate is not False, side, prompt_name)


class TextBody(schemas.Body):
    """Of a route for texts that has no options of its own. Unknown fields are ignored."""

    model_config = ConfigDict(
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


def text_of(error: KnownError) -> str | None:
    """Word for word what text-embeddings-inference says, where it has words for it: its clients may
    look for them. Of several inputs it does not say which; this does. None: it is ours to say."""
    if isinstance(error, Overloaded):
        return f"Model is overloaded: {error}"
    if not isinstance(error, InputError):
        return None
    field = f"`{error.field}`"
    if isinstance(error, TextTooLong):
        given = f"at least {error.tokens}" if error.at_least else error.tokens
        return f"{_INVALID}: {field} must have less than {error.limit} tokens. Given: {given}"
    if isinstance(error, TooManyInputs) and error.field in _BATCHES:
        return f"batch size {error.count} > maximum allowed batch size {error.limit}"
    if isinstance(error, TooManyDimensions):
        return f"{_INVALID}: {field} should be smaller than the maximum embedding dimension."
    if isinstance(error, NotPositive):
        return f"{_INVALID}: {field} should be positive"
    return f"{field} cannot be empty" if error.kind == "empty" else None


_INVALID = "Input validation error"
_BATCHES = {"inputs", "ids", "texts", "inputs.sentences"}

ERRORS = ErrorFormat(
    envelope,
    statuses={"invalid_request": 422, "never_in_time": 422, "empty": 400, "wrong_task": 424},
    text=text_of,
)
