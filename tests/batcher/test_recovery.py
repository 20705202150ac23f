"""A batch that raises: whose fault it was, at what price, and who is not run again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from batcher.errors import RunnerFailed, WorkerLost
from batcher.recovery import run_batch
from batcher.request import Request, State
from batcher.runner import Reply
from tests.fakes import request


class Model:
    """Doubles numbers; raises on a batch that holds a culprit; counts its runs."""

    def __init__(self, culprits: set[int]) -> None:
        self.culprits = culprits
        self.runs: list[list[int]] = []

    def run(self, payloads: Sequence[Any]) -> Reply:
        self.runs.append(list(payloads))
        if bad := self.culprits & set(payloads):
            raise RunnerFailed(f"cannot do {min(bad)}")
        return Reply([2 * payload for payload in payloads], 0.25)


def running(count: int) -> list[Request]:
    requests = [request(payload=number) for number in range(count)]
    for each in requests:
        each.state = State.RUNNING
    return requests


def test_a_batch_that_does_not_raise_runs_once_and_keeps_its_time() -> None:
    model = Model(set())
    assert run_batch(model.run, running(5)) == Reply([0, 2, 4, 6, 8], 0.25)
    assert len(model.runs) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 64])
def test_one_culprit_fails_alone_within_the_bound(size: int) -> None:
    for culprit in range(size):
        model = Model({culprit})
        reply = run_batch(model.run, running(size))
        assert isinstance(reply.results[culprit], RunnerFailed)
        assert str(reply.results[culprit]) == f"cannot do {culprit}"
        mates = [place for place in range(size) if place != culprit]
        assert [reply.results[place] for place in mates] == [2 * place for place in mates]
        assert len(model.runs) - 1 <= 2 * math.ceil(math.log2(size))
        assert reply.seconds == 0.0


def test_every_request_a_culprit_costs_two_runs_each_at_most() -> None:
    model = Model(set(range(16)))
    reply = run_batch(model.run, running(16))
    assert [str(result) for result in reply.results] == [f"cannot do {n}" for n in range(16)]
    assert len(model.runs) == 2 * 16 - 1


def test_a_half_whose_callers_have_all_gone_is_not_run_again() -> None:
    model, requests = Model({0}), running(4)
    requests[2].state = requests[3].state = State.DONE
    assert len(run_batch(model.run, requests).results) == 4
    assert [2, 3] not in model.runs
    assert [1] in model.runs


def test_a_worker_that_dies_on_the_way_ends_it() -> None:
    def run(payloads: Sequence[Any]) -> Reply:
        if len(payloads) < 4:
            raise WorkerLost("died")
        raise RunnerFailed("no")

    with pytest.raises(WorkerLost):
        run_batch(run, running(4))
