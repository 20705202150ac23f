"""Claims about dispatch to several accelerators."""

import numpy as np
import pytest

from loadtests.drivers import arrivals
from loadtests.theory.dispatch import dispatched, least_expected_completion, round_robin
from loadtests.theory.queueing import Accelerator, take_all

BALANCED = Accelerator(0.005, 0.0005, 32)


def test_one_replica_is_take_all_whatever_the_rule():
    times = arrivals.poisson(0.7 * BALANCED.capacity, 5, seed=1).tolist()
    expected = take_all(times, BALANCED)
    for rule in (least_expected_completion, round_robin):
        assert np.allclose(dispatched(times, BALANCED, 1, rule), expected)


def test_least_expected_completion_avoids_the_replica_that_has_just_begun():
    accelerator = Accelerator(1.0, 0.0, limit=8)
    # Round robin sends 0.9 to the replica that is busy until 1.0 and 0.95 to the one until 1.6.
    times = [0.0, 0.6, 0.9, 0.95]
    assert dispatched(times, accelerator, 2, round_robin) == pytest.approx([1, 1, 1.1, 1.65])
    best = dispatched(times, accelerator, 2, least_expected_completion)
    assert best == pytest.approx([1, 1, 1.1, 1.05])


# Means in ms, four replicas: computed independently of this project.
@pytest.mark.parametrize(
    ("rho", "rule", "mean_ms"),
    [
        (0.1, least_expected_completion, 6.2),
        (0.5, least_expected_completion, 11.5),
        (0.9, least_expected_completion, 22.5),
        (0.1, round_robin, 6.8),
        (0.5, round_robin, 12.3),
        (0.9, round_robin, 24.5),
    ],
)
def test_dispatch_agrees_with_the_reference_table(rho, rule, mean_ms):
    times = arrivals.poisson(rho * 4 * BALANCED.capacity, 8, seed=1).tolist()
    assert dispatched(times, BALANCED, 4, rule).mean() * 1e3 == pytest.approx(mean_ms, rel=0.03)
