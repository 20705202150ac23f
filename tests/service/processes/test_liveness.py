"""Who is asked, and who has been silent for too long."""

from __future__ import annotations

from service.processes.liveness import BOUND, INTERVAL, Heartbeats


def calls(beats: Heartbeats, first: float, last: float) -> dict[float, list[str]]:
    """Two processes that are called on time, of which only `a` answers: who is silent when."""
    found, now = {}, first
    while now <= last:
        _, found[now] = beats.ping(["a", "b"], now)
        beats.pong("a")
        now += INTERVAL
    return found


def test_one_is_asked_again_only_once_it_has_answered() -> None:
    beats = Heartbeats()
    assert beats.ping(["a", "b"], 0.0) == (["a", "b"], [])
    beats.pong("a")
    assert beats.ping(["a", "b"], INTERVAL) == (["a"], [])


def test_one_that_does_not_answer_is_silent_from_the_bound_on_and_nobody_else_is() -> None:
    silent = calls(Heartbeats(), 100.0, 100.0 + BOUND + INTERVAL)
    assert silent == {now: ["b"] if now - 100.0 >= BOUND else [] for now in silent}
    assert ["b"] in silent.values()


def test_one_that_answers_late_but_within_the_bound_is_forgiven() -> None:
    beats = Heartbeats()
    calls(beats, 0.0, BOUND - INTERVAL)
    beats.pong("b")
    assert beats.ping(["a", "b"], BOUND) == (["a", "b"], [])


def test_who_was_stopped_together_with_the_one_that_asks_has_the_bound_anew() -> None:
    beats = Heartbeats()
    calls(beats, 0.0, INTERVAL)
    woken = 1_000.0
    silent = calls(beats, woken, woken + BOUND)
    assert silent == {now: ["b"] if now == woken + BOUND else [] for now in silent}


def test_one_that_is_not_up_is_not_asked_and_the_next_of_a_name_owes_nothing() -> None:
    beats = Heartbeats()
    beats.ping(["a"], 0.0)
    beats.pong("a")  # it has died
    assert beats.ping([], INTERVAL) == ([], [])
    for times in range(2, 6):
        assert beats.ping([], times * INTERVAL) == ([], [])
    assert beats.ping(["a"], 6 * INTERVAL) == (["a"], [])
