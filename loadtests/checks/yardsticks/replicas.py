"""Y7: four replicas against the best rule of dispatch, and better than taking turns.

The ideal plays the same arrivals. The least expected completion is computed without any cost of
HTTP and hand-over: what a lone request pays of that, as in Y2, is allowed beside it.
"""

from loadtests.checks.yardsticks.bench import (
    ACCELERATOR,
    Bench,
    Sizes,
    requests_to,
    say,
    simulated,
    unanswered,
)
from loadtests.drivers import arrivals
from loadtests.drivers.openloop import referee
from loadtests.reports.finding import Finding
from loadtests.servers.launch import running
from loadtests.theory.dispatch import dispatched, least_expected_completion, round_robin

REPLICAS = 4
RHOS = Sizes().replica_rhos
EXPLAINED = 1.05


def y7(bench: Bench) -> list[Finding]:
    overhead = bench.overhead  # Of one replica, that nobody else uses.
    bench.stop()
    found: list[Finding] = []
    seconds = bench.sizes.replicas
    with running(simulated("replicas", replicas=REPLICAS, **bench.topology), bench.cpus) as server:
        requests = requests_to(server.target, bench.seed)
        for rho in bench.sizes.replica_rhos:
            rate = rho * REPLICAS * ACCELERATOR.capacity
            times = arrivals.poisson(rate, seconds, bench.seed)
            run = referee(server.target, requests, times, seconds)
            bench.record.raw(f"replicas-{rho:g}", run)
            summary = run.summary()
            say(f"{REPLICAS} replicas, rho {rho:g}: {summary}")
            best, turns = (
                float(dispatched(times.tolist(), ACCELERATOR, REPLICAS, rule).mean())
                for rule in (least_expected_completion, round_robin)
            )
            what = f"{REPLICAS} replicas, rho {rho:g}: mean"
            found += [
                *unanswered(what, run),
                *judged(what, summary.mean_ms / 1e3, best, turns, overhead),
            ]
    return found


def judged(what: str, measured: float, best: float, turns: float, overhead: float) -> list[Finding]:
    """Seconds: the mean as measured, by the best rule and by taking turns."""
    return [
        Finding(
            what,
            measured * 1e3,
            "ms",
            best * 1e3,
            f"<= {EXPLAINED:g} + overhead",
            measured <= EXPLAINED * best + overhead,
        ),
        Finding(
            f"{what}, beside round robin",
            measured * 1e3,
            "ms",
            turns * 1e3,
            "< 1",
            measured < turns,
        ),
    ]
