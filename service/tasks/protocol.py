"""What a task is: from a caller's raw input to what the model runs, and from its answer to a typed
result. Knows no HTTP, no engine and no torch: HTTP, jobs and clusters call the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeVar

from batcher.request import Payload

Raw_contra = TypeVar("Raw_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class ModelInput(NamedTuple):
    """One input, preprocessed. The payload is an array, several by name
    (`{"input_ids": int32[n], "token_type_ids": int32[n]}`), or a JSON value; the engine finds equal
    ones by it. The cost is in tokens, or in whatever a batch of this model grows with."""

    payload: Payload
    cost: int


Direction = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may ask of the preprocessing. A task ignores what it has no use for."""

    truncate: bool = True  # cut a text over the model's limit, or refuse it
    truncation_direction: Direction | None = None  # the end that is cut off; None: the model's own
    prompt_name: str | None = None  # of the prompt that goes before a text; None: the default one
    only_first: bool = False  # of a pair: the second text is never cut
    max_tokens: int | None = None  # special ones included, where that is below the model's limit


DEFAULT_OPTIONS = Options()


class Task(Protocol[Raw_contra, Result_co]):
    """Safe to share between threads."""

    name: ClassVar[str]  # as in BATCHER_TASK

    def preprocess(self, one: Raw_contra, options: Options) -> ModelInput:
        """Raises InputError only."""

    def is_heavy(self, inputs: Sequence[Raw_contra]) -> bool:
        """Whether to preprocess these off the event loop: they may take more than about 1 ms."""

    def result(self, value: object) -> Result_co:
        """The runner's answer to one input, checked. Raises RunnerFailed, or WrongTask where only
        the answer tells that the model is for something else."""
