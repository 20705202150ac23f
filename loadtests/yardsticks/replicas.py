"""Y7: four replicas against the best rule of dispatch. Reported; dispatch is a later release's."""

from loadtests import arrivals
from loadtests.checks.finding import Finding
from loadtests.dispatch import dispatched, least_expected_completion, round_robin
from loadtests.openloop import referee
from loadtests.servers import running
from loadtests.yardsticks.bench import ACCELERATOR, Bench, requests_to, say, simulated, unanswered

REPLICAS = 4
RHOS = (0.5, 0.9)


def y7(bench: Bench) -> list[Finding]:
    bench.stop()
    found: list[Finding] = []
    seconds = bench.sizes.replicas
    with running(simulated("replicas", replicas=REPLICAS), bench.cpus) as server:
        requests = requests_to(server.target, bench.seed)
        for rho in RHOS:
            rate = rho * REPLICAS * ACCELERATOR.capacity
            times = arrivals.poisson(rate, seconds, bench.seed)
            run = referee(server.target, requests, times, seconds)
            bench.record.raw(f"replicas-{rho:g}", run)
            summary = run.summary()
            say(f"{REPLICAS} replicas, rho {rho:g}: {summary}")
            best, turns = (
                float(dispatched(times.tolist(), ACCELERATOR, REPLICAS, rule).mean()) * 1e3
                for rule in (least_expected_completion, round_robin)
            )
            what = f"{REPLICAS} replicas, rho {rho:g}: mean (round robin: {turns:.4g} ms)"
            found += [
                *unanswered(what, run),
                Finding(what, summary.mean_ms, "ms", best, "no verdict in this release"),
            ]
    return found
