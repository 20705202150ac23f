"""Y1 to Y4: saturation, mean, percentiles and the identity, against the exact queueing model.

Luck is taken out: the ideal accelerator plays the same arrivals as the service, so that a figure
and its ideal were dealt the same cards.
"""

import numpy as np

from loadtests.checks.yardsticks.bench import ACCELERATOR, Bench, Poisson, unanswered
from loadtests.drivers.outcomes import OK, mean_batch
from loadtests.reports.finding import Finding
from loadtests.theory.queueing import exact, identity, take_all, usual_loop

OVERHEAD_SECONDS = 0.002
IDENTITY_RHO = 0.8  # Above it batches reach the limit too often for the identity.


def y1(bench: Bench) -> list[Finding]:
    """Saturation, and the gap between two full batches."""
    ideal, rate = ACCELERATOR.capacity, bench.saturation
    most = 0.0003 + 0.01 * ACCELERATOR.time(ACCELERATOR.limit)
    return [
        Finding("saturation", rate, "/s", ideal, ">= 0.97", rate >= 0.97 * ideal),
        Finding(
            "saturated: idle between two batches",
            bench.gap * 1e3,
            "ms",
            need=f"<= {most * 1e3:.3g} ms",
            ok=bench.gap <= most,
        ),
    ]


def overhead(bench: Bench) -> Finding:
    return Finding(
        "unloaded: latency above s(1)",
        bench.overhead * 1e3,
        "ms",
        need=f"<= {OVERHEAD_SECONDS * 1e3:g} ms",
        ok=bench.overhead <= OVERHEAD_SECONDS,
    )


def y2(bench: Bench) -> list[Finding]:
    """The mean: what this run drew, less what the ideal drew of the same, plus the exact mean."""
    found = [overhead(bench)]
    for rho in bench.sizes.rhos:
        played = bench.poisson(rho)
        found += [*unanswered(f"rho {rho:g}", played.run), mean(played, bench.overhead)]
    return found


def y3(bench: Bench) -> list[Finding]:
    """Percentiles, of the same arrivals."""
    return [
        finding
        for rho in bench.sizes.rhos
        for finding in percentiles(bench.poisson(rho), bench.overhead)
    ]


def y4(bench: Bench) -> list[Finding]:
    """The identity: no delay beyond what its own mean batch explains."""
    return [
        same_as_its_batches(bench.poisson(rho), bench.overhead)
        for rho in bench.sizes.rhos
        if rho <= IDENTITY_RHO
    ]


def mean(played: Poisson, over: float) -> Finding:
    ideal = exact(played.rate, ACCELERATOR).latency
    drawn = float(take_all(played.times, ACCELERATOR).mean())
    measured = float(played.latencies.mean()) - drawn + ideal
    return _explained(f"rho {played.rho:g}: mean", measured, ideal, over)


def percentiles(played: Poisson, over: float) -> list[Finding]:
    """p50 and p95 are judged, p99 is reported: of a minute it is a handful of requests."""
    ideals, found = take_all(played.times, ACCELERATOR), []
    for share in (50, 95, 99):
        measured, ideal = (
            float(np.percentile(latencies, share)) for latencies in (played.latencies, ideals)
        )
        judged = share < 99
        found.append(
            Finding(
                f"rho {played.rho:g}: p{share}",
                measured * 1e3,
                "ms",
                ideal * 1e3,
                need="<= 1.07 + overhead" if judged else "",
                ok=measured <= 1.07 * ideal + over if judged else None,
            )
        )
    return found


def same_as_its_batches(played: Poisson, over: float) -> Finding:
    """The identity holds in the long run; what the ideal misses it by on these arrivals is luck."""
    drawn = usual_loop(played.times, ACCELERATOR, max_wait=0.0)
    luck = float(drawn.latencies.mean()) - identity(played.rate, drawn.batch, ACCELERATOR)
    batch = mean_batch([outcome for outcome in played.run.outcomes if outcome.status == OK])
    ideal = identity(played.rate, batch, ACCELERATOR)
    measured = float(played.latencies.mean()) - luck
    what = f"rho {played.rho:g}: mean, by the identity at its mean batch of {batch:.2f}"
    return _explained(what, measured, ideal, over)


def _explained(what: str, measured: float, ideal: float, over: float) -> Finding:
    """A mean latency, in seconds."""
    return Finding(
        what,
        measured * 1e3,
        "ms",
        ideal * 1e3,
        need="<= 1.05 + overhead",
        ok=measured <= 1.05 * ideal + over,
    )
