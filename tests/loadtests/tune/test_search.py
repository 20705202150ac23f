"""Claims about the tuner's search, on services whose limit is known."""

import dataclasses
import random
from collections import Counter

import pytest

from loadtests.tune.search import (
    DEFAULT,
    Candidate,
    Look,
    Search,
    across,
    curve,
    first_guess,
    join,
    judge,
    limit,
    next_rate,
    rival,
    shared_rates,
)

TARGET = 50.0


def size(value: int) -> Candidate:
    return Candidate((("BATCHER_MAX_BATCH_SIZE", str(value)),))


def threads(value: int) -> Candidate:
    return Candidate((("BATCHER_THREADS", str(value)),))


class Service:
    """p95 rises as 10 ms / (1 - rate/capacity), by chance `noise` more or less."""

    def __init__(self, capacities: dict[Candidate, float], noise: float = 0.0) -> None:
        self.capacities, self.noise = capacities, noise
        self.random = random.Random(7)
        self.asked: Counter[Candidate] = Counter()

    def probe(self, candidate: Candidate, rate: float, which: int) -> Look:
        self.asked[candidate] += 1
        left = 1 - rate / self.capacities[candidate]
        p95 = 10 / left if left > 0 else float("inf")
        return Look(rate, p95 * self.random.lognormvariate(0, self.noise), 100)

    def limit(self, candidate: Candidate) -> float:
        return 0.8 * self.capacities[candidate]  # where 10 / (1 - share) is 50


def explored(service: Service, candidate: Candidate, probes: int, guess: float) -> Search:
    search = Search(service.probe, TARGET)
    search.explore(candidate, probes, guess, until=1.0)
    return search


@pytest.mark.parametrize("guess", [30.0, 80.0, 150.0])
def test_limit_of_a_known_curve_is_found_within_seven_looks(guess):
    service = Service({DEFAULT: 100.0})
    search = explored(service, DEFAULT, 7, guess)
    assert search.limit(DEFAULT) == pytest.approx(80.0, rel=0.05)
    assert service.asked[DEFAULT] == 7


@pytest.mark.parametrize("seed", range(10))
def test_unlucky_looks_are_outvoted(seed):
    service = Service({DEFAULT: 100.0}, noise=0.15)
    service.random.seed(seed)
    assert explored(service, DEFAULT, 12, 60.0).limit(DEFAULT) == pytest.approx(80.0, rel=0.12)


def test_a_look_that_contradicts_the_others_is_levelled_with_its_neighbours():
    looks = [Look(10, 20, 100), Look(20, 60, 100), Look(30, 20, 100), Look(40, 90, 100)]
    rising = [value for _, value in curve(looks, TARGET)]
    assert rising == sorted(rising)
    assert 30 < limit(looks, TARGET) < 40  # one look over the target at 20/s is not believed


def test_one_disturbed_look_of_three_at_a_rate_is_left_out():
    calm = [Look(10, 20, 100), Look(20, 40, 100), Look(20, 41, 100), Look(30, 70, 100)]
    assert limit([*calm, Look(20, 9000, 100)], TARGET) == pytest.approx(limit(calm, TARGET), 0.02)


def test_limit_is_the_top_rate_when_all_hold_and_below_the_lowest_when_none_does():
    assert limit([Look(10, 20, 1), Look(20, 30, 1)], TARGET) == 20
    assert limit([Look(10, 100, 1), Look(20, float("inf"), 1)], TARGET) == pytest.approx(5)


def test_next_rate_goes_out_until_bracketed_then_bisects_then_looks_again():
    assert next_rate([], TARGET, 40) == 40
    assert next_rate([Look(40, 20, 1)], TARGET, 40) > 40
    assert next_rate([Look(40, 60, 1)], TARGET, 40) < 40
    bracketed = [Look(40, 20, 1), Look(90, 100, 1)]
    assert next_rate(bracketed, TARGET, 40) == pytest.approx(60)
    narrow = [Look(40, 49, 1), Look(41, 51, 1)]
    assert 40 < next_rate(narrow, TARGET, 40) < 41


def found(service: Service) -> Candidate | None:
    search = explored(service, DEFAULT, 5, 60.0)
    alternatives = [each for each in service.capacities if each is not DEFAULT]
    single = [each for each in alternatives if len(each.settings) == 1]
    return rival(search, single, probes=3, keep=2, until=1.0)


def test_halving_finds_the_best_of_known_curves_within_its_looks():
    sizes = {size(value): 100.0 - abs(value - 16) for value in (4, 8, 16, 32, 64)}
    waiting = {Candidate((("BATCHER_MAX_WAIT_MS", "5"),)): 60.0}
    joined = {size(16).joined(next(iter(waiting))): 60.0, size(8).joined(next(iter(waiting))): 50.0}
    service = Service({DEFAULT: 80.0, **sizes, **waiting, **joined})
    assert found(service) == size(16)
    assert service.asked.total() <= 36


def test_the_best_of_two_kinds_are_joined_and_looked_at():
    both = size(16).joined(threads(2))
    service = Service({DEFAULT: 100.0, size(16): 110.0, threads(2): 120.0, both: 150.0})
    assert found(service) == both
    assert both.settings == (("BATCHER_MAX_BATCH_SIZE", "16"), ("BATCHER_THREADS", "2"))
    assert join([size(16), size(8)]) is None


def test_a_hopeless_candidate_costs_one_look():
    service = Service({DEFAULT: 100.0, size(1): 20.0, size(16): 105.0})
    assert found(service) == size(16)
    assert service.asked[size(1)] == 1


def test_who_falls_back_in_a_closer_look_is_overtaken_by_who_was_dropped():
    lucky, steady = size(8), size(16)
    service = Service({DEFAULT: 100.0, lucky: 125.0, steady: 115.0})

    def probe(candidate: Candidate, rate: float, which: int) -> Look:
        if candidate == lucky and which == 3:  # the first round is over
            service.capacities[lucky] = 80.0
        look = service.probe(candidate, rate, which)
        return dataclasses.replace(look, requests=100 if which < 3 else 1000)

    search = Search(probe, TARGET)
    search.explore(DEFAULT, 5, 60.0, until=1.0)
    assert rival(search, [lucky, steady], probes=3, keep=1, until=1.0) == steady
    assert len(search.looks[steady]) == 3 < len(search.looks[lucky])


def test_what_the_time_does_not_allow_is_left_out_and_named():
    service = Service({DEFAULT: 100.0, size(16): 120.0})
    search = explored(service, DEFAULT, 5, 60.0)
    search.spent = lambda: 2.0
    assert rival(search, [size(16)], probes=3, keep=2, until=1.0) is None
    assert set(search.left_out) == {"max_batch_size=16"}


def duel(service: Service, challenger: Candidate, repeats: int = 3) -> dict:
    rates = shared_rates([service.limit(DEFAULT), service.limit(challenger)], 3)
    return {
        candidate: [
            [service.probe(candidate, rate, repeat) for rate in rates] for repeat in range(repeats)
        ]
        for candidate in (DEFAULT, challenger)
    }


def test_a_better_challenger_wins_by_its_gain():
    service = Service({DEFAULT: 100.0, threads(2): 130.0}, noise=0.05)
    verdict = judge(threads(2), duel(service, threads(2)), TARGET)
    assert verdict.winner == threads(2)
    assert verdict.gain == pytest.approx(1.3, rel=0.1)
    assert verdict.limits[DEFAULT] == pytest.approx(80, rel=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_equals_leave_the_default(seed):
    service = Service({DEFAULT: 100.0, size(32): 100.0}, noise=0.1)
    service.random.seed(seed)
    assert judge(size(32), duel(service, size(32)), TARGET).winner == DEFAULT


def test_a_gain_smaller_than_the_noise_leaves_the_default():
    def looks(*limits: float) -> list[list[Look]]:
        return [[Look(each * 0.9, 40, 9), Look(each * 1.1, 62.5, 9)] for each in limits]

    noisy = {DEFAULT: looks(100, 100, 100), size(8): looks(95, 110, 125)}
    steady = {DEFAULT: looks(100, 100, 100), size(8): looks(109, 110, 111)}
    assert judge(size(8), noisy, TARGET).winner == DEFAULT
    assert judge(size(8), steady, TARGET).winner == size(8)


def test_a_challenger_never_seen_within_the_target_does_not_win():
    over = {
        DEFAULT: [[Look(10, 200, 9)]] * 3,
        size(8): [[Look(10, 100, 9)]] * 3,
    }
    assert judge(size(8), over, TARGET).winner == DEFAULT


def test_first_guess_solves_the_batch_that_feeds_itself():
    # s(b) = 5 + 0.5 b ms at 16 callers; a target of 39 ms is 1.95 x 20: s(b) = 20, b = 30
    rate = first_guess(0.0055, 16, 0.013, 0.039)
    assert rate == pytest.approx(1500, rel=0.01)
    # A target that even an idle device barely keeps: start where hardly anybody waits.
    assert first_guess(0.024, 16, 0.085, 0.035) == pytest.approx(0.15 / 0.024)


def test_rates_that_all_hold_or_all_fail_do_not_show_where_the_limit_is():
    def looks(*values: float) -> list[Look]:
        return [Look(10.0 * (place + 1), value, 9) for place, value in enumerate(values)]

    assert across([looks(40, 60), looks(60, 70)], TARGET)
    assert across([looks(40, 45), looks(45, 60)], TARGET)
    assert not across([looks(51, 60), looks(60, 70)], TARGET)
    assert not across([looks(20, 50), looks(30, 40)], TARGET)
