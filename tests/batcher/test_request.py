"""A batch is fixed once closed, and settle is its only exit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from batcher.errors import Draining, NotReady, Overloaded, Refused, RunnerFailed
from batcher.request import Batch
from tests.fakes import report, request


class Owner:
    """Writes down how each batch ended."""

    def __init__(self) -> None:
        self.settled: list[tuple[list[Any], float]] = []

    def settle(self, batch: Batch, results: Sequence[Any], inference: float) -> None:
        self.settled.append((list(results), inference))

    def halve(self, batch: Batch, out_of_memory: bool) -> Sequence[Batch]:
        return ()

    def requeue(self, batch: Batch, lost: bool) -> int:
        return 0


def batch(*costs: int, owner: Owner | None = None) -> Batch:
    requests = [request(payload=f"text of {cost}", cost=cost) for cost in costs]
    return Batch(requests, {}, 0, "full", 0.0, predicted=0.0, owner=owner or Owner())


def test_a_batch_counts_its_tokens_with_and_without_padding() -> None:
    mixed = batch(3, 10, 5)
    assert (mixed.size, mixed.tokens, mixed.useful_tokens) == (3, 30, 18)


def test_payloads_come_in_the_order_of_the_requests() -> None:
    assert batch(2, 1).payloads == ["text of 2", "text of 1"]


ENDS: list[Callable[[Batch], Any]] = [
    lambda batch: batch.settle(["second"]),
    lambda batch: batch.fail(RunnerFailed("late")),
    lambda batch: batch.halve(),
    lambda batch: batch.requeue(lost=True),
]


@pytest.mark.parametrize("end", ENDS)
def test_ending_twice_is_a_bug_and_changes_nothing(end: Callable[[Batch], Any]) -> None:
    owner = Owner()
    twice = batch(1, owner=owner)
    twice.settle(["first"], 0.5)
    with pytest.raises(AssertionError, match="ended twice"):
        end(twice)
    assert owner.settled == [(["first"], 0.5)]


def test_padding_is_the_part_of_the_tokens_that_nobody_sent() -> None:
    assert report(size=2, tokens=20, useful_tokens=15).padding_ratio == 0.25


@pytest.mark.parametrize("kind", [Refused, Overloaded, NotReady, Draining])
def test_a_refusal_keeps_its_text_and_its_wait_across_processes(kind: type[Refused]) -> None:
    copy = pickle.loads(pickle.dumps(kind("no room", retry_after=2.5)))
    assert (type(copy), str(copy), copy.retry_after) == (kind, "no room", 2.5)
