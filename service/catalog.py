"""The models served here, by name, and the tasks of each. One model today.

A task is registered in TASKS, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from service.errors import WrongTask
from service.repository.spec import EncoderSpec
from service.tasks.embed import Embed
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Task
from service.tasks.text_inputs import TextPreprocessor

Normalization = Literal["model", "service", "never"]
"""What brings vectors to length 1: the model itself, the service on request, or nothing."""

AnyTask = Task[Any, Any]
SomeTask = TypeVar("SomeTask", bound=AnyTask)


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """How callers are told of it: `this model <lacks>: use <route>`."""

    lacks: str
    route: str


TASKS: Mapping[str, TaskEntry] = {
    "embed": TaskEntry("does not answer vectors", "POST /v1/embeddings or POST /embed"),
}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model, as clients see it. Known once it has been found; its replicas come up later."""

    name: str
    created: int  # Unix seconds
    tasks: Mapping[str, AnyTask]
    normalization: Normalization = "never"
    dimension: int | None = None  # None: the user's own runner knows
    max_length: int | None = None  # tokens
    pooling: str | None = None
    aliases: frozenset[str] = field(init=False)  # any of these in a request means this model

    def __post_init__(self) -> None:
        last_part = self.name.rstrip("/").rpartition("/")[2]
        object.__setattr__(self, "aliases", frozenset({self.name, last_part}))

    def task(self, kind: type[SomeTask]) -> SomeTask:
        """Raises WrongTask, which says what the model is for."""
        found = self.tasks.get(kind.name)
        if type(found) is kind:
            return found
        raise WrongTask(wrong_task(kind.name, self.tasks))

    def canary(self) -> ModelInput:
        """What a replica is to run that has run nothing for long."""
        [first, *_] = self.tasks.values()
        return first.preprocess("ok", DEFAULT_OPTIONS)


def wrong_task(wanted: str, there: Mapping[str, AnyTask]) -> str:
    routes = " or ".join(TASKS[name].route for name in there)
    return f"this model {TASKS[wanted].lacks}: use {routes}"


def own_runner(name: str, preprocessor: TextPreprocessor, created: int) -> ServedModel:
    return ServedModel(name, created, {"embed": Embed(preprocessor)})


def text_model(
    name: str, spec: EncoderSpec, preprocessor: TextPreprocessor, created: int
) -> ServedModel:
    return ServedModel(
        name,
        created,
        {"embed": Embed(preprocessor)},
        "model" if spec.normalize else "service",
        spec.dimension,
        spec.max_length,
        spec.pooling,
    )
