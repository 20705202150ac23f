"""Signature: the tensors of a model, and what a call that brings some of them asks of its task.

Every task that Open Inference V2 serves has one, in a file beside this; by_task.py lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, Field

from service.api import schemas
from service.api.oip.tensors import Output, Tensor, TensorSpec
from service.catalog import AnyTask
from service.tasks.protocol import DEFAULT_OPTIONS, Options
from service.tasks.text_inputs import whole

_Natural = Annotated[int, Field(ge=0), BeforeValidator(whole)]
_LAST = 7  # priority


class InferParameters(schemas.Body):
    """Of a request. Those behind `sequence_id` are extensions, the same as on other routes."""

    priority: _Natural | None = Field(
        None,
        description="1 is soonest, 4 the default, 8 and all above it last; 0 is none. It wins over"
        " the Priority header",
    )
    timeout: _Natural | None = Field(
        None,
        description="microseconds from the arrival of the request; 0 is none. The shorter of this"
        " and X-Request-Timeout-Ms counts",
    )
    binary_data_output: bool | None = Field(
        False, description="answer the outputs as binary data, but for those that say otherwise"
    )
    sequence_id: int | str | None = Field(
        None,
        description="501, unless it is 0 or empty: no model keeps a state",
        json_schema_extra={"enum": [None, 0, ""]},
    )
    truncate: bool | None = Field(
        True, description="cut a text over the model's limit; false: refuse it"
    )
    truncation_direction: Literal["left", "right"] | None = Field(
        None, description="the end that is cut off; the default is the model's own"
    )
    prompt_name: str | None = Field(None, description=schemas.ABOUT_PROMPT)
    normalize: bool | None = Field(
        True, description="bring vectors to length 1; false: as the model made them"
    )
    dimensions: schemas.Count | None = Field(None, description=schemas.ABOUT_DIMENSIONS)
    raw_scores: bool | None = Field(
        False, description="the model's logits instead of scores from 0 to 1"
    )

    @property
    def urgency(self) -> int | None:
        """0 (soonest) to 7; None: as the headers say."""
        return min(self.priority - 1, _LAST) if self.priority else None

    @property
    def options(self) -> Options:
        named = (self.truncation_direction, self.prompt_name)
        if self.truncate is not False and named == (None, None):
            return DEFAULT_OPTIONS
        return Options(self.truncate is not False, *named)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asks of a task, and how its results become tensors."""

    task: AnyTask
    rows: Sequence[Any]  # raw inputs of the task, one for each row
    field: Callable[[int], str]  # what the caller calls the row of that place
    outputs: Callable[[Sequence[Any]], Mapping[str, Output]]  # of the task's results, by name


class Signature(Protocol):
    """Of one model. Safe to share between threads."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The first is that of a body that is nothing but a tensor."""

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    def ask(self, given: Mapping[str, Tensor], parameters: InferParameters, limit: int) -> Asked:
        """`given`: by name, each as it is declared; `limit`: of the rows. Raises InputError."""
