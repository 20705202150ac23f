"""One call through a task and the engine, whatever the protocol and the task, and where its time
went. Speaks no HTTP: jobs and clusters call it as well."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from batcher import Answer, BatchReport, Client, NeverInTime, NotReady, Overloaded
from batcher.clock import Clock
from batcher.request import Payload
from batcher.scheduling.admission import HOPELESS
from service.errors import Header, InputError
from service.inference.offload import OffloadPool
from service.tasks.protocol import DEFAULT_OPTIONS, Options, Task

Raw = TypeVar("Raw")
Result = TypeVar("Result")

Field = str | Callable[[int], str]
"""What the caller calls the inputs: their list, or each by its place."""


class Call(Protocol):
    """Who asks, and until when: an HTTP request is one."""

    started: float  # on the engine's clock
    timeout: float  # seconds from there until the caller wants its answer
    priority: int  # 0 (soonest) to 7
    caller: str | None  # of those who share the engine


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
        self._lag = AnswerLag()
        self._timing = ServerTiming()
        self._compute_type = b""  # of the device; empty: nothing has been answered yet

    async def run(
        self,
        call: Call,
        task: Task[Raw, Result],
        inputs: Sequence[Raw],
        field: Field = "inputs",
        options: Options = DEFAULT_OPTIONS,
        priority: int | None = None,  # None: the call's
    ) -> Results[Result]:
        """All or none, in order. Raises InputError, WrongTask, or what the engine raises."""
        deadline, caller = call.started + self._lag.subtract_from(call.timeout), call.caller
        begun = self._now()
        if task.is_heavy(inputs):
            payloads, costs = await self.offload.run(
                deadline, preprocess, task, inputs, options, field, caller=caller
            )
        else:
            payloads, costs = preprocess(task, inputs, options, field)
        preprocessing = self._now() - begun
        if priority is None:
            priority = call.priority
        try:
            answers = await self.client.submit_all(
                payloads, costs=costs, deadline=deadline, priority=priority, caller=caller
            )
        except NeverInTime:
            if HOPELESS * (deadline - self._now()) >= call.timeout:
                raise
            why = "most of the time had passed before the inputs were ready"  # next time it may not
            raise Overloaded(why, retry_after=1.0) from None
        if not self._compute_type:
            await self._find_compute_type()
        values: list[Result] = []
        for answer in answers:  # a comprehension would be one more call for each request
            values.append(task.result(answer.value))  # noqa: PERF401
        return Results(values, answers, sum(costs), preprocessing)

    def timing(self, call: Call, results: Results[Result]) -> Header:
        """Where the time went, for the answer. Called last: the answer is written next."""
        now = self._now()
        self._lag.observe(results.answers[-1].batch, now)
        return self._timing.header(results, now - call.started)

    def timings(self, call: Call, results: Results[Any], characters: int) -> tuple[Header, ...]:
        """The same, and what text-embeddings-inference says beside it: whole milliseconds, rounded
        down; of several inputs the mean. `characters`: of the inputs, of token ids their number.

        One function, since every short request passes it: what it calls, timing() calls, too."""
        now = self._now()
        answers = results.answers
        self._lag.observe(answers[-1].batch, now)
        total = now - call.started
        queue, inference, count = answers[0].queue_wait, answers[0].batch.inference, len(answers)
        if count > 1:
            queue = sum(answer.queue_wait for answer in answers) / count
            inference = sum(answer.batch.inference for answer in answers) / count
        total_ms = b"%d" % (total * 1e3)
        return (
            self._timing.header(results, total),
            (b"x-compute-type", self._compute_type),
            (b"x-compute-time", total_ms),
            (b"x-compute-characters", b"%d" % characters),
            (b"x-compute-tokens", b"%d" % results.cost),
            (b"x-total-time", total_ms),
            (b"x-tokenization-time", b"%d" % (results.preprocessing * 1e3 / count)),
            (b"x-queue-time", b"%d" % (queue * 1e3)),
            (b"x-inference-time", b"%d" % (inference * 1e3)),
        )

    async def _find_compute_type(self) -> None:
        """As text-embeddings-inference names it, by the device of the first replica."""
        with contextlib.suppress(NotReady):  # the engine's process is being replaced
            replicas = (await self.client.snapshot()).replicas
            device = replicas[0].info.device if replicas else ""
            self._compute_type = b"gpu+optimized" if device.startswith("cuda") else b"cpu"


def preprocess(
    task: Task[Raw, Any], inputs: Sequence[Raw], options: Options, field: Field
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
        place = len(costs)
        if not isinstance(field, str):
            raise error.at(field(place)) from None
        raise error.at(f"{field}[{place}]" if len(inputs) > 1 else field) from None
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


class ServerTiming:
    """https://www.w3.org/TR/server-timing/, in milliseconds: of the input that waited longest.

    What a batch has to say is written once and not again for each of its requests.
    """

    def __init__(self) -> None:
        self._batch: BatchReport | None = None
        self._of_batch = ("", "")

    def header(self, results: Results[Any], total: float) -> Header:
        answers = results.answers
        answer = answers[0] if len(answers) == 1 else max(answers, key=_queue_wait)
        batch = answer.batch
        if batch is not self._batch:
            self._batch = batch
            self._of_batch = (
                f"inference;dur={batch.inference * 1e3:.3f}",
                f'batch;desc="size={batch.size} tokens={batch.tokens} reason={batch.reason}'
                f" padding={batch.padding_ratio:.2f} oldest={batch.oldest_wait * 1e3:.1f}"
                f' predicted={batch.predicted * 1e3:.1f}"',
            )
        inference, description = self._of_batch
        text = (
            f"tokenize;dur={results.preprocessing * 1e3:.3f},"
            f" queue;dur={answer.queue_wait * 1e3:.3f},"
            f" {inference}, total;dur={total * 1e3:.3f}, {description}"
        )
        for stage, waited, seconds in answer.stages:
            text += f', {stage};dur={seconds * 1e3:.3f};desc="wait={waited * 1e3:.1f}"'
        return (b"server-timing", text.encode("ascii"))


def _queue_wait(answer: Answer) -> float:
    return answer.queue_wait
