"""A call through a task and the engine; and what comes off its timeout for the way back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from batcher import BatcherError, NeverInTime, Overloaded
from service.errors import InputError
from service.inference.offload import OffloadPool
from service.inference.pipeline import AnswerLag, Pipeline, Results
from service.tasks.protocol import ModelInput, Options
from tests.fakes import FakeClock, report, run_async
from tests.service.conftest import FakeClient


def lag_of(*seconds: float) -> AnswerLag:
    lag = AnswerLag()
    for each in seconds:
        lag.observe(report(inference=0.2), 0.2 + each)
    return lag


def test_before_the_first_answer_nothing_comes_off() -> None:
    assert AnswerLag().subtract_from(1.0) == 1.0


def test_what_the_slowest_of_the_last_answers_took_comes_off_and_half_as_much_again() -> None:
    assert lag_of(0.004, 0.002).subtract_from(1.0) == pytest.approx(1.0 - 1.5 * 0.004 * 0.99)
    assert lag_of(0.004, *[0.001] * 500).subtract_from(1.0) == pytest.approx(1.0 - 1.5 * 0.001)


def test_never_more_than_a_tenth_of_the_timeout() -> None:
    assert lag_of(9.0).subtract_from(0.5) == pytest.approx(0.45)


def test_an_answer_from_memory_says_nothing() -> None:
    lag = lag_of(0.004)
    lag.observe(report(size=0), 9.0)
    assert lag.seconds == pytest.approx(0.004)


# A call, with neither HTTP nor a model.


class Doubling:
    """A task of numbers: over 99 they are refused, over 9 they take long."""

    name: ClassVar[str] = "double"

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def preprocess(self, one: int, options: Options) -> ModelInput:
        self.threads.add(threading.current_thread().name.partition("_")[0])
        if one > 99 and not options.truncate:
            raise InputError("is over 99")
        return ModelInput(min(one, 99), cost=one + 1)

    def is_heavy(self, inputs: Sequence[int]) -> bool:
        return max(inputs) > 9

    def result(self, value: object) -> str:
        return f"twice {value}"


@dataclass
class FromMe:
    """A call of this file's own. It begins at 4, and two seconds are all it waits for."""

    started: float = 4.0
    timeout: float = 2.0
    priority: int = 2
    caller: str | None = "me"


def piped(inputs: list[int], client: FakeClient, **options: Any) -> tuple[Results[str], Doubling]:
    clock, task = FakeClock(5.0), Doubling()
    pool = OffloadPool(clock)
    pipeline = Pipeline(client, clock, pool)
    try:
        return run_async(pipeline.run(FromMe(), task, inputs, **options)), task
    finally:
        pool.close()


def test_a_call_goes_through_task_and_engine_and_comes_back_typed_and_in_order() -> None:
    client = FakeClient(answer=lambda payload: payload * 2)
    results, task = piped([3, 1], client)
    assert results.values == ["twice 6", "twice 2"]
    assert results.cost == 6
    asked = client.last
    assert (asked.payloads, asked.costs, asked.deadline) == ([3, 1], [4, 2], 6.0)
    assert (asked.priority, asked.caller) == (2, "me")
    assert task.threads == {threading.current_thread().name}


def test_a_priority_of_its_own_counts_and_not_the_calls() -> None:
    client = FakeClient(answer=lambda payload: payload)
    piped([3], client, priority=0)
    assert client.last.priority == 0


def test_heavy_inputs_are_preprocessed_in_the_pool() -> None:
    _, task = piped([3, 10], FakeClient(answer=lambda payload: payload))
    assert task.threads == {"tokenise"}


@pytest.mark.parametrize(
    ("timeout", "error"), [(2.0, Overloaded), (2.9, Overloaded), (3.1, NeverInTime)]
)
def test_a_call_that_has_lost_its_time_before_it_came_to_the_engine_may_try_again(
    timeout: float, error: type[BatcherError]
) -> None:
    """A second was gone: with all of its timeout it might be in time."""
    client, clock = FakeClient(error=NeverInTime("too many")), FakeClock(5.0)
    pipeline = Pipeline(client, clock, OffloadPool(clock))
    with pytest.raises(error):
        run_async(pipeline.run(FromMe(timeout=timeout), Doubling(), [3, 1]))


@pytest.mark.parametrize(("inputs", "place"), [([100], "given"), ([1, 100, 100], "given[1]")])
def test_the_input_that_is_refused_is_named(inputs: list[int], place: str) -> None:
    client = FakeClient()
    with pytest.raises(InputError, match="is over 99") as refused:
        piped(inputs, client, field="given", options=Options(truncate=False))
    assert refused.value.field == place
    assert client.submitted == []
