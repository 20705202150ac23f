"""The smallest fleet: it grows with the traffic, and it says so where none is small enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from batcher.limits import Limits
from batcher.scheduling.simulate import Arrival, Simulation, simulate
from service.plan import search
from service.plan.batch_time import Device, Linear
from service.plan.report import advice, as_text
from service.plan.search import CannotBeKept, Goal, Plan, Planner
from service.plan.traffic import Lengths, Traffic

DEVICE = Linear(fixed=0.005, each=0.0005, token=0.0, source="a test")  # 1,730/s in 64s
GOAL = Goal(rate=500, p95=0.05, handoff=0.0, overhead=0.002, seconds=0.2, per_machine=8)
TRAFFIC = Traffic(Lengths.fixed(16), deadline=30.0, seed=1)


def find(
    device: Device = DEVICE,
    traffic: Traffic = TRAFFIC,
    sizes: tuple[int, ...] = (64,),
    budgets: tuple[int, ...] = (16384,),
    told: list[str] | None = None,
    **goal: float | None,
) -> Plan:
    tell = [].append if told is None else told.append
    wanted = dataclasses.replace(GOAL, **goal)  # type: ignore[arg-type]  # by name
    planner = Planner(wanted, traffic, device, tell, slice_of=1000)
    return planner.plan(Limits(), sizes, budgets)


def test_replicas_grow_with_the_rate_and_none_is_spare() -> None:
    plans = [find(rate=rate) for rate in (500.0, 4000.0, 20_000.0)]
    totals = [plan.fleet.total for plan in plans]
    assert totals == sorted(totals)
    assert totals[0] == 1 < totals[1] < totals[-1]
    for plan in plans:
        assert plan.kept
        assert plan.final.p95 <= 0.05
        assert plan.goal.rate <= plan.within <= plan.breaks


def test_one_replica_less_does_not_keep_it() -> None:
    plan = find(rate=4000.0)
    assert plan.fleet.total > 1
    assert not find(rate=4000.0, replicas=plan.fleet.total - 1).kept


def test_a_tighter_target_takes_more_replicas() -> None:
    loose, tight = (find(rate=3000.0, p95=p95).fleet.total for p95 in (0.1, 0.012))
    assert tight > loose


def test_what_the_hand_off_takes_is_paid_by_every_batch() -> None:
    assert find(handoff=0.005).breaks == pytest.approx(64 / (0.005 + 0.005 + 0.032), rel=0.01)
    assert find().breaks == pytest.approx(64 / (0.005 + 0.032), rel=0.01)


def test_lengths_that_differ_cost_nothing_where_nothing_is_padded() -> None:
    mixed = Traffic(Lengths("mixed", (8.0,) * 9 + (256.0,)), deadline=30.0, seed=1)
    by_token = Linear(0.040, 0.0, 20e-6, source="a test")
    pads = find(by_token, mixed, p95=1.0)
    does_not = find(dataclasses.replace(by_token, padding_free=True), mixed, p95=1.0)
    mean = (9 * 8 + 256) / 10
    assert does_not.breaks == pytest.approx(64 / (0.040 + 64 * mean * 20e-6), rel=0.1)
    assert does_not.breaks > 1.1 * pads.breaks


def test_a_target_below_a_request_that_is_alone_is_impossible() -> None:
    with pytest.raises(
        CannotBeKept, match=r"7 ms cannot be kept by any number of replicas: .* 7\.5"
    ):
        find(p95=0.007)


def test_a_given_number_of_replicas_is_kept_and_told_off_if_too_few() -> None:
    plan = find(rate=4000.0, replicas=2)
    assert (plan.fleet.total, plan.kept) == (2, False)
    assert "4,000/s is more than the 3,4" in advice(plan)
    assert find(rate=500.0, replicas=2).kept


def test_past_one_machine_the_share_of_one_is_played_and_multiplied() -> None:
    plan = find(rate=1_000_000.0)
    assert plan.kept
    assert plan.fleet.replicas == 8
    assert plan.fleet.machines > 1_000_000 / (8 * 1730)
    assert plan.final.rate * plan.fleet.machines == pytest.approx(1_000_000)
    assert plan.final.requests < 20_000  # and a million a second was not
    text = as_text(plan, TRAFFIC, DEVICE)
    assert f"({plan.fleet.machines} machines of 8)" in text
    assert f"multiplied by {plan.fleet.machines}" in text


def test_machines_times_capacity_is_what_the_fleet_can_do() -> None:
    small, large = find(rate=100_000.0), find(rate=1_000_000.0)
    assert large.fleet.machines == pytest.approx(10 * small.fleet.machines, rel=0.05)
    assert large.breaks == pytest.approx(large.fleet.total * 64 / 0.037, rel=0.01)


def test_the_size_stays_where_no_other_is_better() -> None:
    assert find(sizes=(64, 128, 32)).fleet.limits.max_batch_size == 64


def test_a_larger_size_is_taken_where_it_saves_replicas() -> None:
    plan = find(rate=4000.0, p95=0.2, sizes=(8, 64))
    assert plan.fleet.limits.max_batch_size == 64
    assert plan.fleet.total < find(rate=4000.0, p95=0.2, sizes=(8,)).fleet.total


def test_replicas_share_a_burst_so_that_no_smaller_size_is_needed() -> None:
    """Of 32 at once each of two takes 16, which is 161 ms; one alone would take 321."""
    bursts = dataclasses.replace(TRAFFIC, gaps=(*(0.0,) * 31, 1.0))
    slow = Linear(fixed=0.001, each=0.010, token=0.0, source="a test")
    plan = find(device=slow, traffic=bursts, sizes=(64, 4), rate=32.0, p95=0.2)
    assert (plan.fleet.total, plan.fleet.limits.max_batch_size) == (2, 64)
    assert plan.final.p95 == pytest.approx(0.161, rel=0.02)


def test_a_token_budget_is_taken_where_long_texts_hold_up_the_short() -> None:
    mixed = Traffic(Lengths("mixed", (8.0,) * 19 + (512.0,)), deadline=30.0, seed=1)
    by_token = Linear(fixed=0.002, each=0.0, token=10e-6, source="a test")
    told: list[str] = []
    wide = find(device=by_token, traffic=mixed, rate=800.0, p95=0.2)
    plan = find(
        device=by_token, traffic=mixed, rate=800.0, p95=0.2, budgets=(16384, 2048), told=told
    )
    assert (plan.fleet.total, plan.final.p95) <= (wide.fleet.total, wide.final.p95)
    assert told


def test_sizes_that_no_batch_reaches_are_not_tried() -> None:
    told: list[str] = []
    plan = find(rate=100.0, sizes=(64, 128, 32, 4, 1), budgets=(1,), told=told)
    assert [line for line in told if line.startswith("up to")] == ["up to 64 requests, 1 tokens"]
    assert plan.breaks == pytest.approx(1 / 0.0055, rel=0.01)


def test_a_plan_plays_few_times_what_its_answer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a plan is that of the requests it plays, which no slow machine makes more."""
    played = []

    def counted(arrivals: Sequence[Arrival], *rest: Any) -> Simulation:
        played.append(len(arrivals))
        return simulate(arrivals, *rest)

    monkeypatch.setattr("service.plan.trial.simulate", counted)
    monkeypatch.setattr(search, "MOST", 40_000)
    plan = find(rate=1000.0, seconds=600.0, sizes=(64, 128, 32, 16), budgets=(16384, 512))
    assert plan.final.requests == search.MOST
    assert played.count(search.MOST) == 1
    assert sum(played) < 2 * search.MOST


def test_equal_questions_have_equal_answers() -> None:
    assert find(rate=3000.0) == find(rate=3000.0)
