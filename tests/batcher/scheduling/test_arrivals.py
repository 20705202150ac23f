"""Waiting for callers that come straight back: when it pays, and that it costs others nothing."""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable

import pytest

from batcher.limits import Limits
from batcher.scheduling.arrivals import Regroup
from batcher.scheduling.schedule import Schedule
from batcher.scheduling.simulate import Arrival, simulate
from loadtests.theory.virtual_time import latencies
from tests.fakes import request

FIXED, EACH = 0.050, 0.005  # seconds
PROFILE = [(size, size, FIXED + EACH * size) for size in (1, 4, 16, 64)]


def closed_loop(
    callers: int, batches: int, turnaround: Callable[[int], float] = lambda caller: 0.003
) -> list[tuple[int, str]]:
    """Each caller sends its next request `turnaround` seconds after an answer; inf: it leaves.

    They start in two groups, as take-all leaves them. Returns the size and reason of each batch.
    """
    schedule = Schedule(Limits())
    schedule.replicas[0].came_up(PROFILE)
    returns = [(0.0 if caller < callers // 2 else 0.01, caller) for caller in range(callers)]
    heapq.heapify(returns)
    now, ends, began, running, formed = 0.0, float("inf"), 0.0, [], []  # type: ignore[var-annotated]
    while len(formed) < batches:
        due = float("inf")
        if not running and schedule.pending:
            due = schedule.due(0, now, draining=False)
            if due <= now:
                selection = schedule.cut(0, now, draining=False)
                running, began = [each.reply_to for each in selection.taken], now
                ends = now + FIXED + EACH * len(running)
                formed.append((len(running), selection.reason))
                continue
        now = min(due, ends, returns[0][0] if returns else float("inf"))
        assert now < float("inf"), "nobody would ever come again"
        while returns and returns[0][0] <= now:
            _, caller = heapq.heappop(returns)
            schedule.admit([request(arrival=now, reply_to=caller)], now)
        if ends <= now:
            size = len(running)
            schedule.ended(
                0,
                now,
                began=began,
                size=size,
                tokens=size,
                useful_tokens=size,
                seconds=now - began,
                released=size,
            )
            for caller in running:
                if (back := now + turnaround(caller)) < float("inf"):
                    heapq.heappush(returns, (back, caller))
            running, ends = [], float("inf")
    return formed


@pytest.mark.parametrize("callers", [2, 8, 32])
def test_two_groups_of_callers_become_one(callers: int) -> None:
    sizes = [size for size, _ in closed_loop(callers, 40)]
    assert sizes[0] < callers
    assert set(sizes[5:]) == {callers}


def test_a_batch_that_was_held_for_company_says_so() -> None:
    assert {reason for _, reason in closed_loop(8, 40)[5:]} == {"regroup"}


def test_callers_that_take_longer_than_a_tenth_of_a_batch_are_not_waited_for() -> None:
    formed = closed_loop(8, 80, lambda caller: 0.030)
    assert "regroup" not in {reason for _, reason in formed[40:]}


def test_when_one_caller_leaves_the_others_stay_together() -> None:
    answers = 0

    def leaves(caller: int) -> float:
        nonlocal answers
        answers += caller == 3
        return float("inf") if caller == 3 and answers > 20 else 0.003

    sizes = [size for size, _ in closed_loop(8, 80, leaves)]
    assert sizes[10] == 8
    assert set(sizes[-40:]) == {7}


# By itself


def taught(returned: int, released: int = 10, windows: int = 20) -> Regroup:
    """So many of those released came back a tenth into the window, of 0.1 s, and nobody between."""
    regroup = Regroup()
    for turn in range(windows):
        regroup.released(0, float(turn), released, next_batch=1.0)
        regroup.arrived(turn + 0.01, returned)
    return regroup


def test_it_is_optimistic_at_first() -> None:
    regroup = Regroup()
    regroup.released(0, 5.0, 4, next_batch=1.0)
    assert regroup.until(0) == pytest.approx(5.1)


def test_it_waits_a_tenth_of_the_next_batch_at_the_very_most() -> None:
    regroup = Regroup()
    for turn in range(30):
        regroup.released(0, float(turn), 4, next_batch=0.5)
        assert regroup.until(0) <= turn + 0.05
        regroup.arrived(turn + 0.049, 4)


def test_it_learns_how_soon_they_return_and_waits_little_longer() -> None:
    regroup = taught(10)
    regroup.released(0, 20.0, 10, next_batch=1.0)
    assert regroup.until(0) == pytest.approx(20.0 + 1.5 * 0.01)


def test_when_as_many_are_back_as_were_released_nobody_else_is_waited_for() -> None:
    regroup = Regroup()
    regroup.released(0, 0.0, 4, next_batch=1.0)
    regroup.arrived(0.01, 3)
    assert regroup.until(0) > 0.01
    regroup.arrived(0.02, 1)
    assert regroup.until(0) == float("-inf")


def test_only_the_replica_whose_batch_has_ended_waits() -> None:
    regroup = Regroup()
    regroup.released(1, 0.0, 4, next_batch=1.0)
    assert regroup.until(0) == float("-inf") < regroup.until(1)


def test_if_less_than_half_come_back_it_stops_waiting_and_starts_again_when_more_do() -> None:
    regroup = taught(4)
    assert regroup.until(0) == float("-inf")
    for turn in range(20, 40):
        regroup.released(0, float(turn), 10, next_batch=1.0)
        regroup.arrived(turn + 0.01, 10)  # seen though nobody waits for them
    regroup.released(0, 40.0, 10, next_batch=1.0)
    assert regroup.until(0) > 40.0


def test_those_who_come_at_any_time_are_not_taken_for_returning_ones() -> None:
    regroup = Regroup()
    for turn in range(30):
        regroup.released(0, float(turn), 10, next_batch=1.0)
        for tenth in range(10):  # 100 a second, ten of them in each window
            regroup.arrived(turn + 0.05 + tenth / 10, 10)
    regroup.released(0, 30.0, 10, next_batch=1.0)
    assert regroup.until(0) == float("-inf")


# Poisson arrivals: nobody comes back


@pytest.mark.parametrize(
    ("load", "fixed", "each"),
    [
        (0.1, 0.005, 0.0005),
        (0.5, 0.005, 0.0005),
        (0.9, 0.005, 0.0005),
        (0.5, 0.005, 0.0001),
        (0.5, 0.002, 0.002),
    ],
)
def test_under_poisson_arrivals_it_costs_less_than_a_hundredth(
    load: float, fixed: float, each: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, at, trace = random.Random(7), 0.0, []
    rate = load * 32 / (fixed + each * 32)
    for _ in range(20_000):
        at += draw.expovariate(rate)
        trace.append(Arrival(at))

    def run() -> tuple[float, list[str]]:
        batches = simulate(
            trace, Limits(max_batch_size=32), lambda size, tokens: fixed + each * size
        ).batches
        return statistics.fmean(latencies(trace, batches)), [each.reason for each in batches]

    mean, reasons = run()
    held = reasons[len(reasons) // 10 :].count("regroup")
    assert held <= 0.02 * len(reasons)
    monkeypatch.setattr(Regroup, "until", lambda self, replica: float("-inf"))
    take_all, _ = run()
    assert mean <= 1.01 * take_all
