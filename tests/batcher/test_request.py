"""A batch is whole at birth, and what is said of it."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from batcher.errors import Draining, NotReady, Overloaded, Refused
from batcher.request import Batch
from tests.fakes import request


def batch(*costs: int) -> Batch:
    requests = [request(payload=f"text of {cost}", cost=cost) for cost in costs]
    useful = sum(costs)
    return Batch(
        requests,
        {},
        replica=0,
        reason="full",
        closed=2.0,
        predicted=0.5,
        hang_timeout=5.0,
        tokens=len(costs) * max(costs),
        useful_tokens=useful,
    )


def test_a_batch_is_whole_at_birth_and_nothing_can_be_poked_into_it() -> None:
    whole = batch(1)
    for field in dataclasses.fields(whole):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(whole, field.name, getattr(whole, field.name))


@pytest.mark.parametrize("kind", [Refused, Overloaded, NotReady, Draining])
def test_a_refusal_keeps_its_text_and_its_wait_across_processes(kind: type[Refused]) -> None:
    copy = pickle.loads(pickle.dumps(kind("no room", retry_after=2.5)))
    assert (type(copy), str(copy), copy.retry_after) == (kind, "no room", 2.5)
