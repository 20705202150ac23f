"""Claims about how the survival check judges."""

import argparse
import json

import pytest

from loadtests.chaos import bystanders, survival
from loadtests.drivers.history import Call
from loadtests.drivers.reference_answers import Computed
from loadtests.reports.finding import at_most, exactly, holds, none

REFERENCE = Computed()


def call(text: str, status: int = 200, of: str | None = None, outcomes: int = 1) -> Call:
    """Answered with the vector of `of`, or its own."""
    vector = REFERENCE.answer(text if of is None else of).tolist()
    body = json.dumps([vector]).encode()
    return Call(text, 1.0, 0.0, answered=0.1, status=status, body=body, outcomes=outcomes)


def test_one_culprit_costs_two_runs_for_each_halving():
    assert [bystanders.most_extra_runs(size) for size in (1, 2, 4, 32, 33)] == [0, 2, 4, 10, 12]


def test_batch_hangs_after_ten_times_its_prediction_or_the_floor():
    assert bystanders.patience(0.05, 1.0) == 1.0
    assert bystanders.patience(0.2, 1.0) == 2.0


def test_bounds_are_inclusive():
    assert at_most("a", 10, 10).ok
    assert not at_most("a", 10.1, 10).ok
    assert exactly("a", 50, 50).ok
    assert not exactly("a", 49, 50).ok
    assert not none("a", 1).ok


def test_culprits_fail_and_mates_do_not():
    calls = [call("one"), call("two"), call("fault:raise 1", 500)]
    found = bystanders.verdicts("x", calls, REFERENCE, culprit=500)
    assert holds(found)
    counts = {each.what: each.measured for each in found}
    assert (counts["x: good requests"], counts["x: culprits"]) == (2, 1)


@pytest.mark.parametrize(
    ("broken", "missed"),
    [
        (call("one", 500), "x: of them not answered 200"),
        (call("one", of="two"), "x: 200 with another's vector"),
        (call("one", outcomes=2), "x: not exactly one outcome"),
        (call("fault:raise 1", 200), "x: of them not answered 500"),
    ],
)
def test_each_way_to_suffer_is_missed_by_its_own_line(broken: Call, missed: str):
    found = bystanders.verdicts("x", [call("good"), broken], REFERENCE, culprit=500)
    assert [each.what for each in found if each.ok is False] == [missed]


def test_parts_are_named():
    assert survival._parts("kill,poison") == ["kill", "poison"]
    with pytest.raises(argparse.ArgumentTypeError, match="no part kil"):
        survival._parts("kil")
