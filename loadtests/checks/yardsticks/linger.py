"""Y5, the other half: what waiting for returning callers costs where nobody returns.

Decided so: the judged figure is the service's own policy in virtual time against take-all on the
same Poisson arrivals. Both are free of overhead and of luck, so 1 % can be seen; over HTTP the
hand-over alone is 1 to 3 % of a mean. The collector forms the batches that the simulation forms (a
test holds them to it). The measured mean is reported beside take-all with the measured hand-over
and overhead put in, and the share of batches that lingered with it.
"""

import numpy as np

from batcher.limits import Limits
from batcher.scheduling.simulate import Arrival, simulate
from loadtests.checks.yardsticks.bench import ACCELERATOR, Bench, say
from loadtests.drivers import arrivals
from loadtests.reports.finding import Finding
from loadtests.theory.queueing import Accelerator, take_all
from loadtests.theory.virtual_time import latencies

MEASURED_RHO = 0.5


def cost(bench: Bench) -> list[Finding]:
    return [*(_virtual(bench, rho) for rho in bench.sizes.rhos), *_measured(bench, MEASURED_RHO)]


def _virtual(bench: Bench, rho: float) -> Finding:
    times = arrivals.poisson(rho * ACCELERATOR.capacity, bench.sizes.virtual, bench.seed).tolist()
    ideal = float(take_all(times, ACCELERATOR).mean())
    mean = policy_mean(times)
    say(f"rho {rho:g} in virtual time: {len(times)} requests, {mean / ideal - 1:+.2%}")
    return Finding(
        f"rho {rho:g}: mean of the policy in virtual time",
        mean * 1e3,
        "ms",
        ideal * 1e3,
        need="<= 1.01",
        ok=mean <= 1.01 * ideal,
    )


def policy_mean(times: list[float]) -> float:
    """Seconds. Of the service's own policy, were it and HTTP without overhead."""
    trace = [Arrival(at) for at in times]
    played = simulate(
        trace,
        Limits(max_batch_size=ACCELERATOR.limit),
        lambda size, tokens: ACCELERATOR.time(size),
    )
    if played.refused or played.late:
        raise RuntimeError("the policy refused requests below capacity: their mean says nothing")
    return float(np.mean(latencies(trace, played.batches)))


def _measured(bench: Bench, rho: float) -> list[Finding]:
    played = bench.poisson(rho)
    slower = Accelerator(ACCELERATOR.fixed + bench.gap, ACCELERATOR.each, ACCELERATOR.limit)
    # An unloaded request's overhead has one hand-over in it already.
    ideal = float(take_all(played.times, slower).mean()) - bench.gap + bench.overhead
    lingered = np.mean([outcome.batch_reason == "regroup" for outcome in played.run.outcomes])
    return [
        Finding(
            f"rho {rho:g}: mean over HTTP, beside take-all with its hand-over and overhead",
            float(played.latencies.mean()) * 1e3,
            "ms",
            ideal * 1e3,
        ),
        Finding(
            f"rho {rho:g}: requests whose batch lingered for callers", float(lingered) * 100, "%"
        ),
    ]
