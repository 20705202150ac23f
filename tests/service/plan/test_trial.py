"""A trial against the exact queueing model, and against simulations of others."""

from __future__ import annotations

import pytest

from batcher.limits import Limits
from loadtests.theory.queueing import Accelerator, exact
from service.plan import trial
from service.plan.traffic import Lengths, Traffic
from service.plan.trial import Trial

BALANCED = Accelerator(fixed=0.005, each=0.0005, limit=32)
COMPUTE = Accelerator(fixed=0.002, each=0.002, limit=32)
LIMITS = Limits(max_batch_size=32)
TRAFFIC = Traffic(Lengths.fixed(16), deadline=float("inf"), seed=1)


def play(accelerator: Accelerator, rho: float, count: int = 12_000, overhead: float = 0.0) -> Trial:
    rate = rho * accelerator.capacity
    arrivals = TRAFFIC.requests(rate, count)
    return trial.run(
        arrivals, rate, LIMITS, 1, lambda size, tokens: accelerator.time(size), overhead
    )


@pytest.mark.parametrize("accelerator", [BALANCED, COMPUTE])
@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_mean_batch_and_busy_time_are_those_of_the_exact_model(
    accelerator: Accelerator, rho: float
) -> None:
    ideal, tried = exact(rho * accelerator.capacity, accelerator), play(accelerator, rho)
    assert tried.mean == pytest.approx(ideal.latency, rel=0.04)
    assert tried.mean_batch == pytest.approx(ideal.batch, rel=0.04)
    assert tried.busy == pytest.approx(ideal.busy, rel=0.03)


@pytest.mark.parametrize(
    ("rho", "percentiles"),  # ms, of an independent simulation of 40,000 arrivals
    [(0.3, (10.2, 14.1, 15.6)), (0.5, (12.7, 18.1, 20.4)), (0.7, (16.7, 24.6, 27.9))],
)
def test_percentiles_are_those_of_the_reference(
    rho: float, percentiles: tuple[float, float, float]
) -> None:
    tried = play(BALANCED, rho)
    assert [1e3 * p for p in (tried.p50, tried.p95, tried.p99)] == pytest.approx(
        percentiles, rel=0.05
    )


def test_the_overhead_is_on_top_of_every_latency() -> None:
    plain, client = play(BALANCED, 0.5, 2000), play(BALANCED, 0.5, 2000, overhead=0.003)
    assert client.p50 - plain.p50 == pytest.approx(0.003)
    assert client.p99 - plain.p99 == pytest.approx(0.003)


def test_capacity_is_full_batches_without_a_pause() -> None:
    arrivals = TRAFFIC.requests(1.0, 5000)
    measured = trial.capacity(arrivals, LIMITS, lambda size, tokens: BALANCED.time(size))
    assert measured == pytest.approx(BALANCED.capacity, rel=0.001)


def test_what_gets_no_answer_counts_as_infinitely_late() -> None:
    rate = 3 * BALANCED.capacity
    hurried = Traffic(Lengths.fixed(16), deadline=0.1, seed=1).requests(rate, 5000)
    tried = trial.run(hurried, rate, LIMITS, 1, lambda size, tokens: BALANCED.time(size), 0.0)
    assert tried.lost == pytest.approx(2 / 3, abs=0.1)
    assert tried.p95 == tried.p99 == float("inf")
