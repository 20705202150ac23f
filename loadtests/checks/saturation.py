"""How near the ideal? A simulated accelerator against the exact queueing model of it, over HTTP.

Y1 to Y3 of `python -m loadtests yardsticks`, with loads and lengths of one's own choosing.
"""

import argparse
import dataclasses

from loadtests.checks.yardsticks import queueing
from loadtests.checks.yardsticks.bench import ACCELERATOR, Bench, Sizes, late_drivers
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.theory.queueing import exact

__all__ = ["ACCELERATOR", "TITLE", "add_arguments", "measure"]

TITLE = "A simulated accelerator (50 ms + 5 ms a request, max batch 32) against the exact model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rho", type=number_between(0.01, 0.98), nargs="*", default=[0.3, 0.5, 0.7, 0.9]
    )
    parser.add_argument("--seconds", type=number_between(3, 600), default=75.0, help="a rho")
    parser.add_argument("--saturated-seconds", type=number_between(3, 300), default=30.0)
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    sizes = dataclasses.replace(
        Sizes(), poisson=args.seconds, saturated=args.saturated_seconds, rhos=tuple(args.rho)
    )
    with Bench(record, sizes, args.seed, args.cpus) as bench:
        findings = [*queueing.y1(bench), *queueing.y2(bench), *queueing.y3(bench)]
        findings += [_mean_batch(bench, rho) for rho in args.rho]
        notes = (
            "`mean` is judged with the luck of the draw taken out: measured minus the computed "
            "mean of the same arrivals plus the exact mean. The ideal of a percentile is what the "
            "ideal accelerator makes of the same arrivals."
        )
        return Measured(findings, "\n".join([notes, *late_drivers(bench.runs)]))


def _mean_batch(bench: Bench, rho: float) -> Finding:
    played = bench.poisson(rho)
    return Finding(
        f"rho {rho:g}: mean batch",
        played.run.summary().mean_batch,
        ideal=exact(played.rate, ACCELERATOR).batch,
    )
