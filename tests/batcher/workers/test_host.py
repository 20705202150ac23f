"""The host that runs a runner in the batching thread itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from batcher.errors import RunnerFailed
from batcher.workers.host import InlineHost, run_on
from tests.batcher.runners import DoesNotLoad, Generates, NoFacts, Returns
from tests.fakes import Echo


def started(factory: Callable[[], Echo]) -> InlineHost:
    host = InlineHost(factory)
    host.start()
    return host


def test_an_inline_host_answers_and_times_the_run() -> None:
    reply = run_on(started(Echo), ["a", "b"], 1.0)
    assert reply.results == ["a", "b"]
    assert 0.0 < reply.seconds < 10.0


def test_an_inline_host_gives_the_reason_why_the_runner_does_not_load() -> None:
    with pytest.raises(RunnerFailed, match="FileNotFoundError: no weights in /nowhere"):
        InlineHost(DoesNotLoad).start()


def test_facts_that_are_none_are_a_failure_to_start_and_not_of_every_snapshot() -> None:
    with pytest.raises(RunnerFailed, match="TypeError: warm_up returned NoneType, no mapping"):
        InlineHost(NoFacts).start()


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), MemoryError("bad"), SystemExit("bad"), asyncio.CancelledError("bad")],
)
def test_whatever_a_runner_raises_fails_its_batch_and_not_the_thread(error: BaseException) -> None:
    class Raises(Echo):
        def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
            raise error

    with pytest.raises(RunnerFailed, match=f"{type(error).__name__}: bad"):
        run_on(started(Raises), ["a"], 1.0)


def test_a_runner_that_speaks_our_errors_is_quoted_as_it_is() -> None:
    class Raises(Echo):
        def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
            raise RunnerFailed("not this one")

    with pytest.raises(RunnerFailed, match=r"^not this one$"):
        run_on(started(Raises), ["a"], 1.0)


@pytest.mark.parametrize("runner", [Generates(), Returns({"logits": 1}), Returns(["a", "b"])])
def test_an_inline_host_lets_no_odd_results_through(runner: Echo) -> None:
    with pytest.raises(RunnerFailed, match="the runner returned"):
        run_on(started(lambda: runner), ["a"], 1.0)


def test_results_that_break_while_they_are_read_fail_their_batch() -> None:
    class Lazy:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, place: int) -> str:
            raise OSError("the file has gone")

    with pytest.raises(RunnerFailed, match="OSError: the file has gone"):
        run_on(started(lambda: Returns(Lazy())), ["a", "b"], 1.0)


def test_a_runner_is_closed_once_and_may_fail_at_it(caplog: pytest.LogCaptureFixture) -> None:
    class Sticky(Echo):
        closed = 0

        def warm_up(self) -> Mapping[str, object]:
            return {}

        def close(self) -> None:
            self.closed += 1
            raise OSError("busy")

    runner = Sticky()
    host = started(lambda: runner)
    with caplog.at_level(logging.ERROR):
        host.stop()
        host.stop()
    assert runner.closed == 1
    assert "closing the runner failed" in caplog.text
