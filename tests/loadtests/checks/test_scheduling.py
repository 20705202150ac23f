"""Claims about how the checks of the scheduler judge: deadlines, padding, lanes, repeats, cost."""

import json
import math
from itertools import chain

import pytest

from loadtests.checks import duplicates, lanes, overload, policy
from loadtests.checks import lengths as lengths_check
from loadtests.checks.overload import Attempt, ClientCall
from loadtests.checks.saturation import ACCELERATOR
from loadtests.drivers import arrivals
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import Outcome
from loadtests.drivers.reference_answers import Computed
from loadtests.reports.finding import Finding
from loadtests.theory import length_split as lengths

FULL = ACCELERATOR.time(ACCELERATOR.limit)


def outcome(scheduled: float, latency: float, status: str = "200", timing: bytes = b"") -> Outcome:
    made = Outcome(scheduled)
    made.sent, made.answered, made.status = scheduled, scheduled + latency, status
    made.timing = timing
    return made


def batches(seconds: float, each: float = FULL, latency: float = 0.4) -> list[Outcome]:
    """Full batches, one after another."""
    return [
        outcome(number * each - latency, latency)
        for number in range(1, math.floor(seconds / each) + 1)
        for _ in range(ACCELERATOR.limit)
    ]


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what.partition(": ")[2]: finding for finding in findings}


# Overload


def test_back_to_back_full_batches_are_the_whole_capacity():
    found = overload.rate(batches(20), since=3.0, until=20.0)
    assert found == pytest.approx(ACCELERATOR.capacity)


def test_time_without_answers_counts_against_the_rate():
    early = [out for out in batches(20) if out.answered < 8]
    assert overload.rate(early, since=3.0, until=20.0) < 0.4 * ACCELERATOR.capacity
    assert overload.rate([], since=3.0, until=20.0) == 0


def test_answer_after_its_deadline_is_late_and_no_goodput():
    run = Run([*batches(20), *(outcome(5.0, 0.56) for _ in range(50))], 0.0, 20.0)
    found = by_name(overload.judged("x", run, deadline=0.55))
    assert found["answered in time"].ok
    assert found["answered in time"].measured == pytest.approx(ACCELERATOR.capacity)
    assert found["of the answers late"].ok is False
    all_late = by_name(overload.judged("x", run, deadline=0.3))
    assert all_late["answered in time"].ok is False


def test_overload_that_nothing_is_refused_of_is_missed():
    run = Run(batches(20), 0.0, 20.0)
    assert by_name(overload.judged("x", run, 0.55))["a 429 takes (p99)"].ok is False
    quick = Run([*run.outcomes, outcome(5.0, 0.004, "429")], 0.0, 20.0)
    assert by_name(overload.judged("x", quick, 0.55))["a 429 takes (p99)"].ok
    slow = Run([*run.outcomes, outcome(5.0, 0.03, "429")], 0.0, 20.0)
    assert by_name(overload.judged("x", slow, 0.55))["a 429 takes (p99)"].ok is False


def test_neither_answer_nor_refusal_is_missed_and_a_504_is_not():
    run = Run([*batches(20), outcome(5.0, 0.55, "504")], 0.0, 20.0)
    found = by_name(overload.judged("x", run, 0.55))
    assert found["neither 200, 429 nor 504"].ok
    assert found["ended in 504"].ok
    lost = Run([*batches(20), outcome(5.0, 5.0, "lost")], 0.0, 20.0)
    assert by_name(overload.judged("x", lost, 0.55))["neither 200, 429 nor 504"].ok is False


def test_client_that_comes_back_before_it_may_is_early():
    refused = Attempt(sent=1.0, answered=1.01, status=429, retry_after=0.4)
    assert not ClientCall("a", [refused, Attempt(1.41, 1.6, 200)]).was_early
    assert ClientCall("a", [refused, Attempt(1.3, 1.6, 200)]).was_early
    assert ClientCall("a", [refused, refused, Attempt(1.3)]).refusals == 2


def test_many_who_waited_in_vain_are_missed():
    vain = [outcome(5.0, 0.55, "504") for _ in range(100)]  # Of about 2,700.
    run = Run([*batches(20), *vain], 0.0, 20.0)
    assert by_name(overload.judged("x", run, 0.55))["ended in 504"].ok is False


def test_idle_service_that_runs_what_it_cannot_keep_is_missed():
    refused, ran = overload.Response(429, "1"), overload.Response(504, None)
    assert all(found.ok for found in overload.judged_late([ran, ran, *[refused] * 18], 2))
    counts = [found.ok for found in overload.judged_late([ran] * 20, 20)]
    assert counts == [False, False, True]
    secretly = overload.judged_late([refused] * 20, 3)
    assert [found.ok for found in secretly] == [False, True, True]


@pytest.mark.parametrize("header", [None, "", "0", "1.5", "-1", "soon", "²"])
def test_retry_after_that_is_no_whole_number_of_seconds_is_missed(header: str | None):
    told = [*[overload.Response(429, "2")] * 19, overload.Response(429, header)]
    assert overload.judged_late(told, 0)[2].ok is False


# Lengths


def test_answer_speaks_for_its_share_of_the_batch_s_padding():
    # A batch of 2 and 10 words: 20 tokens as run, 12 of them useful. Another of one text alone.
    two, one = b'batch;desc="size=2 tokens=20"', b'batch;desc="size=1 tokens=8"'
    timings = [two, two, one]
    run = Run([outcome(5.0, 1.0, timing=timing) for timing in timings], 0.0, 10.0)
    assert lengths_check.useful_share([2, 10, 8], run) == pytest.approx(20 / 28)
    refused = Run([outcome(5.0, 1.0, "429")], 0.0, 10.0)
    assert lengths_check.useful_share([2, 10, 8], refused) == 0


def test_p99_of_long_texts_is_of_the_longest_only():
    words = [1] * 9 + [512]
    run = Run([outcome(5.0, 3.0 if n % 10 == 9 else 0.1) for n in range(100)], 0.0, 10.0)
    assert lengths_check.p99_of_long(words, run) == pytest.approx(3.0)


def test_arrival_order_misses_on_one_long_text_in_ten_and_the_best_split_holds():
    words = lengths.mix("90/10", seed=1)
    best, plain = (f(words, lengths_check.DEVICE) for f in (lengths.split, lengths.in_order))
    assert best.rate >= 2.5 * plain.rate
    assert plain.useful_share < 0.9 * best.useful_share


# Lanes


def run_of(*parts: list[Outcome], seconds: float = 20.0) -> Run:
    return Run(sorted(chain(*parts), key=lambda out: out.scheduled), 0.0, seconds)


def interactive(latency: float, status: str = "200") -> list[Outcome]:
    return [outcome(0.1 * number, latency, status) for number in range(200)]


def misses(high: list[Outcome], low: list[Outcome], queue: int = lanes.DEFAULT_QUEUE) -> set[str]:
    found = lanes.judged(queue, run_of(interactive(0.08)), run_of(high, low), high, low)
    return {name for name, each in by_name(found).items() if each.ok is False}


def test_interactive_may_wait_for_one_full_batch_more():
    assert misses(interactive(0.28), batches(20)) == set()
    assert misses(interactive(0.30), batches(20)) == {"interactive beside bulk, p95"}


def test_interactive_that_is_refused_counts_as_slow():
    refused = [*interactive(0.1)[:180], *interactive(0.001, "429")[180:]]
    assert misses(refused, batches(20)) == {
        "interactive beside bulk, p95",
        "interactive not answered 200",
    }


def test_bulk_that_starves_is_missed_whether_it_stops_or_trickles():
    stops = [out for out in batches(20) if out.answered < 14]
    assert misses(interactive(0.1), stops) == {
        "answers to bulk in the worst 5 s",
        "answers to both",
    }
    trickles = [out for number, out in enumerate(batches(20)) if number % 3 == 0]
    assert misses(interactive(0.1), trickles) == {"answers to both"}
    nothing = [outcome(0.05 * number, 0.002, "429") for number in range(400)]
    assert misses(interactive(0.1), nothing) == {
        "answers to bulk in the worst 5 s",
        "answers to both",
    }


@pytest.mark.parametrize(
    ("queue", "late", "holds"),
    [(4096, 20, True), (4096, 40, False), (64, 2, True), (64, 20, False)],
)
def test_few_of_bulk_may_wait_in_vain_and_fewer_in_a_short_queue(
    queue: int, late: int, holds: bool
):
    low = batches(20)  # About 3,000.
    expired = [outcome(5.0, 10.0, "504") for _ in range(late)]
    missed = misses(interactive(0.1), [*low, *expired], queue)
    assert missed == (set() if holds else {"bulk ended in 504"})


# Repeats


def test_so_many_repeat_a_text_of_just_before():
    times = arrivals.poisson(150, 60, seed=1)
    numbers = duplicates.repeats(times, 0.37, 0.05, seed=1)
    first_of: dict[int, float] = {}
    last_of: dict[int, float] = {}
    repeated = 0
    for time, number in zip(times, numbers, strict=True):
        if number in last_of:
            repeated += 1
            assert time - last_of[number] < 0.05
        first_of.setdefault(number, time)
        last_of[number] = time
    assert repeated / len(times) == pytest.approx(0.37, abs=0.02)
    assert numbers == duplicates.repeats(times, 0.37, 0.05, seed=1)


def test_repeat_counts_as_in_flight_until_the_first_is_answered():
    out = [outcome(0.0, 0.1), outcome(0.05, 0.2), outcome(0.5, 0.1)]
    assert duplicates.in_flight(out, ["a", "a", "a"]) == pytest.approx(1 / 3)
    assert duplicates.in_flight(out, ["a", "b", "c"]) == 0


def test_only_the_texts_own_vector_is_right():
    body = json.dumps([Computed().answer("a").tolist()]).encode()
    assert duplicates.is_own(body, "a")
    assert not duplicates.is_own(body, "b")
    for other in (b"", b"{}", b"[]", b"[1.0]"):
        assert not duplicates.is_own(other, "a")


def test_sharing_saves_the_device_nothing_below_capacity_and_a_third_of_it_beyond():
    assert duplicates.expected_saving(0.9, 0.37) == pytest.approx(0, abs=0.02)
    assert duplicates.expected_saving(1.5, 0.37) > 0.3


# Cost of the policy


@pytest.mark.parametrize("limit", [1, 32])
@pytest.mark.parametrize("name", list(policy.TARGETS))
def test_each_subject_is_driven_the_same_way(name: str, limit: int):
    made = policy.requests(policy.TRAFFIC["64 callers, lengths 5 to 128"], seed=1)
    cost = policy.spent(policy.TARGETS[name](limit), made, 2000, limit)
    assert cost.total > 0
    assert min(cost.submit, cost.next_batch, cost.settle) > 0


def test_refusals_are_measured_of_requests_that_are_refused():
    made = policy.requests(policy.TRAFFIC["… in two lanes"], seed=1)
    assert policy.refused(made, 500) > 0


def test_no_two_payloads_of_the_benchmark_are_alike():
    made = policy.requests(policy.TRAFFIC["one caller, equal lengths"], seed=1)
    payloads = {next(made)(0.0).payload.tobytes() for _ in range(500)}
    assert len(payloads) == 500
