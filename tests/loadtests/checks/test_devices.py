"""Claims about how `gap`, `replicas` and Y7 judge. What is measured here was computed."""

import argparse

import pytest

from loadtests.checks import gap, replicas
from loadtests.checks.yardsticks.replicas import judged
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import Outcome
from loadtests.servers.launch import add_topology, topology


def backlog(batches: int, each: float) -> Run:
    """Full batches, one every `each` seconds."""
    outcomes = []
    for number in range(1, batches + 1):
        for _ in range(gap.LIMIT):
            made = Outcome(0.0)
            made.answered, made.status = number * each, "200"
            outcomes.append(made)
    return Run(outcomes, 0.0, batches * each)


@pytest.mark.parametrize(("rest", "holds"), [(0.0, True), (0.00015, True), (0.0003, False)])
def test_idle_share_is_what_full_batches_leave_of_the_time(rest: float, holds: bool) -> None:
    accelerator = gap.device(0.020)
    assert accelerator.time(gap.LIMIT) == pytest.approx(0.020)
    share = gap.idle_share(backlog(200, 0.020 + rest), accelerator)
    assert share == pytest.approx(rest / (0.020 + rest), abs=1e-9)
    assert gap.judged([share], [0.0], [32.0])[0].ok is holds


def test_what_the_service_counts_itself_is_reported_and_not_judged() -> None:
    assert gap.judged([0.0], [0.5], [32.0])[1].ok is None


@pytest.mark.parametrize(("rate", "holds"), [(388.0, True), (387.9, False)])
def test_four_replicas_carry_nearly_four_times_what_one_does(rate: float, holds: bool) -> None:
    assert replicas.scaled(4, rate, 100.0).ok is holds


def test_dispatch_is_near_the_best_rule_and_better_than_taking_turns() -> None:
    # The best rule takes 100 ms, taking turns 110, a lone request 2 more than its batch.
    for measured, near, better in (
        (0.106, True, True),
        (0.109, False, True),
        (0.111, False, False),
    ):
        found = judged("mean", measured, best=0.100, turns=0.110, overhead=0.002)
        assert [finding.ok for finding in found] == [near, better]


def test_topology_sets_only_what_was_asked_for() -> None:
    parser = argparse.ArgumentParser()
    add_topology(parser)
    assert topology(parser.parse_args([])) == {}
    assert topology(parser.parse_args(["--frontends", "2"])) == {"frontends": 2}
    with pytest.raises(SystemExit):  # the setting is deprecated
        parser.parse_args(["--engine", "process"])
