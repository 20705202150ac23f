"""One call through a task and the engine, whatever the protocol and the task. Knows no HTTP: jobs
and clusters call it as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from batcher import Answer, BatchReport, Client
from batcher.clock import Clock
from batcher.request import Payload
from service.errors import InputError
from service.inference.offload import OffloadPool
from service.tasks.protocol import DEFAULT_OPTIONS, Options, Task

Raw = TypeVar("Raw")
Result = TypeVar("Result")


@dataclass(slots=True)
class Results(Generic[Result]):
    """Of one call, in the order of its inputs."""

    values: list[Result]
    answers: list[Answer]  # when and in which batch each ran
    cost: int  # of all inputs; for texts: tokens
    preprocessing: float  # seconds


class Pipeline:
    """Raw inputs → task → engine → task → typed results. For one event loop."""

    def __init__(self, client: Client, clock: Clock, offload: OffloadPool) -> None:
        self.client = client
        self._now = clock.now
        self.offload = offload
        self.lag = AnswerLag()

    async def run(
        self,
        task: Task[Raw, Result],
        inputs: Sequence[Raw],
        *,
        started: float,  # on the engine's clock
        timeout: float,  # seconds from there until the caller wants its answer
        field: str = "inputs",  # what the caller calls them
        options: Options = DEFAULT_OPTIONS,
        priority: int = 3,
        caller: str | None = None,
    ) -> Results[Result]:
        """All or none, in order. Raises InputError, WrongTask, or what the engine raises."""
        deadline = started + self.lag.subtract_from(timeout)
        begun = self._now()
        if task.is_heavy(inputs):
            payloads, costs = await self.offload.run(
                deadline, preprocess, task, inputs, options, field, caller=caller
            )
        else:
            payloads, costs = preprocess(task, inputs, options, field)
        preprocessing = self._now() - begun
        answers = await self.client.submit_all(
            payloads, costs=costs, deadline=deadline, priority=priority, caller=caller
        )
        values: list[Result] = []
        for answer in answers:  # a comprehension would be one more call for each request
            values.append(task.result(answer.value))  # noqa: PERF401
        return Results(values, answers, sum(costs), preprocessing)


def preprocess(
    task: Task[Raw, Any], inputs: Sequence[Raw], options: Options, field: str
) -> tuple[list[Payload], list[int]]:
    """The payloads and their costs. Raises InputError, which names the input that is at fault."""
    payloads: list[Payload] = []
    costs: list[int] = []
    try:
        for one in inputs:
            payload, cost = task.preprocess(one, options)
            payloads.append(payload)
            costs.append(cost)
    except InputError as error:
        raise error.at(f"{field}[{len(costs)}]" if len(inputs) > 1 else field) from None
    return payloads, costs


_FORGETTING = 0.99  # with each answer: about the most of the last hundred counts
_MOST = 0.1  # seconds; more was a machine that stood still
_SPARE = 1.5  # times: requests are read as late as answers are written
_SHARE = 0.1  # of a timeout, at the most


class AnswerLag:
    """How long an answer takes from the end of its batch until it is written. Deadlines are the
    clients', so this comes off what the engine is given."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def observe(self, batch: BatchReport, now: float) -> None:
        """An answer from that batch is about to be written."""
        if not batch.size:  # from memory
            return
        seconds = min(_MOST, now - batch.closed - batch.inference)
        self.seconds = max(seconds, self.seconds * _FORGETTING)

    def subtract_from(self, timeout: float) -> float:
        """What the engine has of a client's timeout; both in seconds."""
        return timeout - min(_SPARE * self.seconds, _SHARE * timeout)

    def __repr__(self) -> str:
        return f"<AnswerLag {self.seconds * 1e3:.1f} ms>"
