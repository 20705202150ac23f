"""Who is asked, and who has been silent for too long."""

from __future__ import annotations

from service.processes.liveness import BOUND, INTERVAL, RollCall


def calls(roll: RollCall, first: float, last: float) -> dict[float, list[str]]:
    """Two processes that are called on time, of which only `a` answers: who is silent when."""
    found, now = {}, first
    while now <= last:
        _, found[now] = roll.call(["a", "b"], now)
        roll.heard("a")
        now += INTERVAL
    return found


def test_one_is_asked_again_only_once_it_has_answered() -> None:
    roll = RollCall()
    assert roll.call(["a", "b"], 0.0) == (["a", "b"], [])
    roll.heard("a")
    assert roll.call(["a", "b"], INTERVAL) == (["a"], [])


def test_one_that_does_not_answer_is_silent_from_the_bound_on_and_nobody_else_is() -> None:
    silent = calls(RollCall(), 100.0, 100.0 + BOUND + INTERVAL)
    assert silent == {now: ["b"] if now - 100.0 >= BOUND else [] for now in silent}
    assert ["b"] in silent.values()


def test_one_that_answers_late_but_within_the_bound_is_forgiven() -> None:
    roll = RollCall()
    calls(roll, 0.0, BOUND - INTERVAL)
    roll.heard("b")
    assert roll.call(["a", "b"], BOUND) == (["a", "b"], [])


def test_who_was_stopped_together_with_the_one_that_asks_has_the_bound_anew() -> None:
    roll = RollCall()
    calls(roll, 0.0, INTERVAL)
    woken = 1_000.0
    silent = calls(roll, woken, woken + BOUND)
    assert silent == {now: ["b"] if now == woken + BOUND else [] for now in silent}


def test_one_that_is_not_up_is_not_asked_and_the_next_of_a_name_owes_nothing() -> None:
    roll = RollCall()
    roll.call(["a"], 0.0)
    roll.heard("a")  # it has died
    assert roll.call([], INTERVAL) == ([], [])
    for times in range(2, 6):
        assert roll.call([], times * INTERVAL) == ([], [])
    assert roll.call(["a"], 6 * INTERVAL) == (["a"], [])
