"""Claims about the best possible."""

import numpy as np
import pytest

from loadtests.drivers import arrivals
from loadtests.theory.queueing import Accelerator, exact, identity, take_all, usual_loop

OVERHEAD = Accelerator(0.005, 0.0001, 32)
BALANCED = Accelerator(0.005, 0.0005, 32)
COMPUTE = Accelerator(0.002, 0.002, 32)

# Utilisation, mean latency in ms, mean batch: computed independently of this project.
REFERENCE = [
    (OVERHEAD, 0.05, 7.05, 1.37),
    (OVERHEAD, 0.5, 9.43, 12.1),
    (OVERHEAD, 0.95, 13.48, 29.5),
    (BALANCED, 0.1, 7.68, 1.28),
    (BALANCED, 0.3, 10.24, 3.03),
    (BALANCED, 0.7, 16.96, 11.4),
    (BALANCED, 0.9, 25.37, 21.8),
    (BALANCED, 0.95, 30.57, 26.2),
    (COMPUTE, 0.1, 4.47, 1.02),
    (COMPUTE, 0.5, 8.55, 1.55),
    (COMPUTE, 0.9, 35.56, 7.08),
]


@pytest.mark.parametrize(("accelerator", "rho", "latency_ms", "batch"), REFERENCE)
def test_exact_agrees_with_the_reference_table(accelerator, rho, latency_ms, batch):
    expected = exact(rho * accelerator.capacity, accelerator)
    assert expected.latency * 1e3 == pytest.approx(latency_ms, abs=0.006)
    assert expected.batch == pytest.approx(batch, rel=0.005)


def test_exact_without_batching_is_the_textbook_single_server_queue():
    accelerator, rate = Accelerator(0.008, 0.002, 1), 70.0  # M/D/1: s + rho s / (2 (1 - rho)).
    rho = rate * 0.010
    expected = exact(rate, accelerator)
    assert expected.latency == pytest.approx(0.010 + rho * 0.010 / (2 * (1 - rho)), rel=1e-9)
    assert expected.busy == pytest.approx(rho, rel=1e-9)


def test_exact_refuses_a_rate_at_or_above_capacity():
    with pytest.raises(ValueError, match="not below the capacity"):
        exact(BALANCED.capacity, BALANCED)


def test_take_all_serves_what_waits_when_it_is_free():
    accelerator = Accelerator(1.0, 0.0, limit=2)
    # 0 alone until 1; then 0.1 and 0.2 together until 2; then 0.3 until 3; 5 finds it idle.
    latencies = take_all([0.0, 0.1, 0.2, 0.3, 5.0], accelerator)
    assert latencies == pytest.approx([1.0, 1.9, 1.8, 2.7, 1.0])


@pytest.mark.parametrize(("accelerator", "rho"), [(OVERHEAD, 0.5), (BALANCED, 0.3), (COMPUTE, 0.7)])
def test_identity_is_exact_where_batches_do_not_reach_the_limit(accelerator, rho):
    rate = rho * accelerator.capacity
    expected = exact(rate, accelerator)
    assert identity(rate, expected.batch, accelerator) == pytest.approx(expected.latency, rel=1e-4)


def test_identity_falls_as_batches_grow():
    rate = 0.5 * BALANCED.capacity
    values = [identity(rate, batch, BALANCED) for batch in (4, 6, 8)]
    assert values == sorted(values, reverse=True)


def test_identity_refuses_a_rate_that_no_batch_can_carry():
    with pytest.raises(ValueError, match="not below 2000/s"):
        identity(2000, 32, BALANCED)


def test_usual_loop_counts_its_wait_from_pick_up_again_and_again():
    accelerator = Accelerator(1.0, 0.0, limit=3)
    # 0 waits until 0.5 and takes 0.4; 0.6 is picked up at 1.5, though it has waited 0.9 already;
    # the last three fill a batch, which closes at once.
    played = usual_loop([0.0, 0.4, 0.6, 5.0, 5.1, 5.2], accelerator, max_wait=0.5)
    assert played.latencies == pytest.approx([1.5, 1.1, 2.4, 1.2, 1.1, 1.0])
    assert (played.batches, played.batch) == (3, 2)


# Means in ms by wait in ms, at half of the capacity: computed independently of this project.
@pytest.mark.parametrize(("wait_ms", "mean_ms"), [(0, 12.8), (2, 15.6), (5, 19.8), (10, 26.9)])
def test_usual_loop_agrees_with_the_reference_table(wait_ms, mean_ms):
    times = arrivals.poisson(0.5 * BALANCED.capacity, 60, seed=1)
    played = usual_loop(times.tolist(), BALANCED, wait_ms / 1e3)
    assert played.latencies.mean() * 1e3 == pytest.approx(mean_ms, rel=0.015)


def test_mean_of_take_all_approaches_exact():
    rate = 0.7 * BALANCED.capacity
    latencies = take_all(arrivals.poisson(rate, 100, seed=5).tolist(), BALANCED)
    assert np.mean(latencies) == pytest.approx(exact(rate, BALANCED).latency, rel=0.02)


def test_scaling_time_scales_the_answer_and_nothing_else():
    slow = Accelerator(0.050, 0.005, 32)
    fast_mean, slow_mean = (exact(0.5 * a.capacity, a).latency for a in (BALANCED, slow))
    assert slow_mean == pytest.approx(10 * fast_mean, rel=1e-9)
