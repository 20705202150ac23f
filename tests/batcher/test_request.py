"""A batch is fixed once closed, and settle is its only exit."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from batcher.errors import Draining, NotReady, Overloaded, Refused, RunnerFailed
from batcher.request import Batch, BatchReport
from tests.fakes import request

Settled = list[tuple[list[Any], float]]


def batch(*costs: int, settled: Settled | None = None) -> Batch:
    def keep(batch: Batch, results: Sequence[Any], inference: float) -> None:
        if settled is not None:
            settled.append((list(results), inference))

    requests = [request(payload=f"text of {cost}", cost=cost) for cost in costs]
    return Batch(requests, 0, "full", closed=0.0, predicted=0.0, _settle=keep)


def test_a_batch_counts_its_tokens_with_and_without_padding() -> None:
    mixed = batch(3, 10, 5)
    assert (mixed.size, mixed.tokens, mixed.useful_tokens) == (3, 30, 18)


def test_payloads_come_in_the_order_of_the_requests() -> None:
    assert batch(2, 1).payloads == ["text of 2", "text of 1"]


def test_settling_twice_is_a_bug_and_changes_nothing() -> None:
    settled: Settled = []
    twice = batch(1, settled=settled)
    twice.settle(["first"], 0.5)
    with pytest.raises(AssertionError, match="settled twice"):
        twice.settle(["second"])
    with pytest.raises(AssertionError, match="settled twice"):
        twice.fail(RunnerFailed("late"))
    assert settled == [(["first"], 0.5)]


def test_fail_gives_every_request_the_error() -> None:
    settled: Settled = []
    error = RunnerFailed("no memory")
    batch(1, 1, 1, settled=settled).fail(error)
    assert settled == [([error, error, error], 0.0)]


def test_padding_is_the_part_of_the_tokens_that_nobody_sent() -> None:
    report = BatchReport(
        replica=0, size=2, tokens=20, useful_tokens=15, reason="full", predicted=0.0, inference=0.1
    )
    assert report.padding_ratio == 0.25


@pytest.mark.parametrize("kind", [Refused, Overloaded, NotReady, Draining])
def test_a_refusal_keeps_its_text_and_its_wait_across_processes(kind: type[Refused]) -> None:
    copy = pickle.loads(pickle.dumps(kind("no room", retry_after=2.5)))
    assert (type(copy), str(copy), copy.retry_after) == (kind, "no room", 2.5)
