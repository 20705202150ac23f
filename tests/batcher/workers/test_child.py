"""What a worker makes of the results of its runner, and of the facts that change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from batcher.errors import RunnerFailed
from batcher.runner import RunnerInfo
from batcher.workers.child import InfoChanges, one_each
from tests.fakes import Echo


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


def test_a_change_of_the_facts_is_reported_once_and_whole() -> None:
    class Changes(Echo):
        facts: Mapping[str, object] | None = None

        def changed_facts(self) -> Mapping[str, object] | None:
            return self.facts

    runner = Changes()
    info = RunnerInfo(pid=7, padding_free=True)
    changes = InfoChanges(runner, info)
    assert changes.next() is None
    runner.facts = {"backend": "torch", "padding_free": None}
    assert [changes.next(), changes.next()] == [RunnerInfo(pid=7, backend="torch"), None]
    runner.facts = {"dtype": "float32", "seed": 1}
    assert changes.next() == RunnerInfo(
        pid=7, backend="torch", dtype="float32", details={"seed": 1}
    )
    assert InfoChanges(Echo(), info).next() is None


def test_a_change_to_the_wrong_type_is_logged_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Changes(Echo):
        facts: Mapping[str, object] | None = None

        def changed_facts(self) -> Mapping[str, object] | None:
            return self.facts

    runner = Changes()
    changes = InfoChanges(runner, RunnerInfo())
    runner.facts = {"dimension": "384"}
    assert [changes.next(), changes.next()] == [None, None]
    assert caplog.messages == [
        "ignoring changed facts of the runner: dimension must be an int, not '384'"
    ]


@pytest.mark.parametrize("facts", ["of the user's own", 7, ValueError("not now")])
def test_facts_that_cannot_be_read_leave_the_batch_alone(
    facts: object, caplog: pytest.LogCaptureFixture
) -> None:
    class Changes(Echo):
        def changed_facts(self) -> Any:
            if isinstance(facts, Exception):
                raise facts
            return facts

    assert InfoChanges(Changes(), RunnerInfo()).next() is None
    assert caplog.messages[0].startswith("ignoring changed facts of the runner: ")
