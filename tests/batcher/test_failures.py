"""What the exceptions and the odd results of a model mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from batcher.errors import Overloaded, RunnerFailed
from batcher.failures import as_outcome, explain
from batcher.runner import one_each


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
