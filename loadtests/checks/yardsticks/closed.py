"""Y5: callers that wait for their answers share one batch instead of forming two groups."""

from statistics import median

from loadtests.checks.yardsticks import linger
from loadtests.checks.yardsticks.bench import ACCELERATOR, Bench
from loadtests.drivers import closedloop
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import OK
from loadtests.reports.finding import Finding

MANY = 64  # Twice the limit: here two groups are right.


def y5(bench: Bench) -> list[Finding]:
    found = [_group(bench, callers) for callers in bench.sizes.callers]
    rate, ideal = closedloop.throughput(bench.closed(MANY), bench.skip), ACCELERATOR.capacity
    found.append(Finding(f"{MANY} callers", rate, "/s", ideal, ">= 0.97", rate >= 0.97 * ideal))
    return found + linger.cost(bench)


def _group(bench: Bench, callers: int) -> Finding:
    run = bench.closed(callers)
    rate, turn = closedloop.throughput(run, bench.skip), turnaround(bench.alone, skip=0.5)
    ideal = ACCELERATOR.one_group(callers, turn)
    return Finding(
        f"{callers} callers, turnaround {turn * 1e3:.2f} ms"
        f" (two groups: {ACCELERATOR.two_groups(callers):.4g}/s)",
        rate,
        "/s",
        ideal,
        ">= 0.90",
        rate >= 0.90 * ideal,
    )


def turnaround(run: Run, skip: float) -> float:
    """What a caller takes from an answer to its next request, as the server sees it. The median.

    A caller's cycle, from one send to its next, less the server's own `total` of Server-Timing:
    both ways over the loopback, reading the answer and writing the next request. Our callers send
    in the same turn of their loop in which they read the answer, so a cycle is a latency.

    To be measured with one caller. With many, a request also waits in its socket while the server
    is busy with the others; that would pass for the caller's time, and it is the server's to lose.
    """
    chosen = [
        outcome
        for outcome in run.outcomes
        if outcome.status == OK and outcome.sent >= run.begin + skip
    ]
    if not chosen:
        raise RuntimeError("no request was answered: there is no turnaround to measure")
    return median(
        outcome.answered - outcome.sent - outcome.phases()["total"] / 1e3 for outcome in chosen
    )
