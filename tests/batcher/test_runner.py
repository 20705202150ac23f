"""What a runner may return, and the host that runs it in the batching thread itself."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from batcher.errors import Overloaded, RunnerFailed
from batcher.runner import (
    InfoChanges,
    InlineHost,
    Launcher,
    RunnerInfo,
    as_outcome,
    explain,
    one_each,
    run_on,
)
from tests.batcher.runners import DoesNotLoad, Generates, NoFacts, Returns
from tests.fakes import Echo


def started(factory: Callable[[], Echo]) -> InlineHost:
    host = InlineHost(factory)
    host.start()
    return host


@pytest.mark.parametrize("results", [["a", "b"], ("a", "b"), bytearray(b"ab"), range(2)])
def test_any_sequence_of_the_right_length_is_one_result_each(results: Sequence[Any]) -> None:
    assert one_each(results, 2) == list(results)


def test_the_rows_of_an_array_are_one_result_each() -> None:
    numpy = pytest.importorskip("numpy")
    rows = one_each(numpy.array([[1, 2], [3, 4]]), 2)
    assert [row.tolist() for row in rows] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "results",
    [None, 7, "ab", b"ab", {"logits": 1, "hidden": 2}, {1, 2}, (each for each in "ab"), object()],
)
def test_what_has_no_results_in_an_order_is_refused_by_its_type(results: Any) -> None:
    with pytest.raises(RunnerFailed, match=f"returned {type(results).__name__}, no sequence"):
        one_each(results, 2)


def test_too_few_or_too_many_results_are_refused_with_both_numbers() -> None:
    with pytest.raises(RunnerFailed, match="returned 1 results for 2 inputs"):
        one_each(["a"], 2)
    with pytest.raises(RunnerFailed, match="returned 3 results for 2 inputs"):
        one_each(["a", "b", "c"], 2)


def test_an_error_is_explained_in_one_line() -> None:
    assert explain(ValueError("no\n   such thing")) == "ValueError: no such thing"
    assert explain(MemoryError()) == "MemoryError"


def test_a_result_that_is_an_exception_stands_for_an_error() -> None:
    ours = Overloaded("full", 1.0)
    assert as_outcome(ours) is ours
    assert str(as_outcome(KeyError("k"))) == "KeyError: 'k'"
    assert as_outcome("a result") is None


def test_facts_of_a_known_name_become_fields_and_all_others_details() -> None:
    facts = {
        "model": "own",
        "dimension": 8,
        "padding_free": True,
        "profile": [[1, 8, 0.5], (2, 16, 1)],
        "backend_failed": {"onnx": "no such operator"},
        "device": None,
        "licence": "MIT",
    }
    info = RunnerInfo.from_facts(facts)
    assert info == RunnerInfo(
        model="own",
        dimension=8,
        padding_free=True,
        profile=((1, 8, 0.5), (2, 16, 1.0)),
        backend_failed={"onnx": "no such operator"},
        details={"licence": "MIT"},
    )
    del facts["device"]
    assert info.facts() == {**facts, "profile": ((1, 8, 0.5), (2, 16, 1.0))}
    assert RunnerInfo.from_facts(info) is info
    assert RunnerInfo.from_facts(info.facts()) == info
    assert RunnerInfo().facts() == {}


@pytest.mark.parametrize(
    ("name", "fact", "expected"),
    [
        ("model", 7, "a str"),
        ("dimension", "384", "an int"),
        ("memory_bytes", 1.5, "an int"),
        ("padding_free", "yes", "a bool"),
        ("profile", "fast", "a list of"),
        ("profile", [[1, 8]], "a list of"),
        ("profile", [[1, 8, None]], "a list of"),
        ("backend_failed", ["onnx"], "a mapping"),
    ],
)
def test_a_fact_of_the_wrong_type_is_refused_by_its_name(
    name: str, fact: object, expected: str
) -> None:
    with pytest.raises(
        TypeError, match=f"^{name} must be {expected}.*, not {re.escape(repr(fact))}"
    ):
        RunnerInfo.from_facts({name: fact})


def test_a_change_of_the_facts_is_reported_once_and_whole() -> None:
    class Changes(Echo):
        news: object = ["of the user's own"]

    runner = Changes()
    info = RunnerInfo(pid=7, padding_free=True)
    changes = InfoChanges(runner, info)
    assert changes.next() is None
    runner.news = {"backend": "torch", "padding_free": None}
    assert [changes.next(), changes.next()] == [RunnerInfo(pid=7, backend="torch"), None]
    runner.news = {"dtype": "float32", "seed": 1}
    assert changes.next() == RunnerInfo(
        pid=7, backend="torch", dtype="float32", details={"seed": 1}
    )
    assert InfoChanges(Echo(), info).next() is None


def test_a_change_to_the_wrong_type_is_logged_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Changes(Echo):
        news: object = None

    runner = Changes()
    changes = InfoChanges(runner, RunnerInfo())
    runner.news = {"dimension": "384"}
    assert [changes.next(), changes.next()] == [None, None]
    assert caplog.messages == [
        "a change of the runner's facts is ignored: dimension must be an int, not '384'"
    ]


def test_a_runner_whose_launch_is_none_launches_nothing() -> None:
    class Maybe(Echo):
        launch: object = None

    runner = Maybe()
    assert not isinstance(runner, Launcher)
    runner.launch = lambda payloads: lambda: payloads
    assert isinstance(runner, Launcher)


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
    assert "did not close" in caplog.text
