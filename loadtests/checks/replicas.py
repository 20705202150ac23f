"""Do several replicas carry several times the load of one? Saturation, and Y7 of the yardsticks."""

import argparse
import dataclasses
from collections import defaultdict
from statistics import median

from loadtests.checks.saturation import ACCELERATOR
from loadtests.checks.yardsticks.bench import Bench, Sizes, requests_to, simulated, unanswered
from loadtests.checks.yardsticks.replicas import RHOS, y7
from loadtests.drivers import closedloop
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import add_topology, running, topology

TITLE = "Several simulated replicas: saturation against one, and dispatch (Y7)"
SCALES = 0.97
BACKLOG = 3  # Full batches' worth of callers for each replica.
SKIP = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replicas", type=count_between(1, 16), nargs="*", default=[2, 4])
    parser.add_argument("--saturated-seconds", type=number_between(3, 120), default=12.0)
    parser.add_argument("--repeats", type=count_between(1, 9), default=1, help="of saturation")
    parser.add_argument("--rho", type=number_between(0.01, 0.98), nargs="*", default=list(RHOS))
    parser.add_argument("--seconds", type=number_between(2, 300), default=30.0, help="a rho")
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)
    add_topology(parser)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings, notes = _saturation(args, record)
    if args.rho:
        sizes = dataclasses.replace(Sizes(), replicas=args.seconds, replica_rhos=tuple(args.rho))
        with Bench(record, sizes, args.seed, args.cpus, topology(args)) as bench:
            findings += y7(bench)
    return Measured(findings, notes)


def _saturation(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    rates: dict[int, list[float]] = defaultdict(list)
    findings: list[Finding] = []
    for repeat in range(args.repeats if args.replicas else 0):
        for count in (1, *args.replicas):
            with running(
                simulated("replicas", replicas=count, **topology(args)), args.cpus
            ) as server:
                run = closedloop.drive(
                    server.target,
                    requests_to(server.target, args.seed),
                    BACKLOG * ACCELERATOR.limit * count,
                    args.saturated_seconds,
                )
            record.raw(f"saturated-{count}-{repeat}", run)
            findings += unanswered(f"{count} replicas, saturated", run)
            rates[count].append(closedloop.throughput(run, min(SKIP, args.saturated_seconds / 3)))
            print(
                f"{repeat + 1}/{args.repeats} {count} replicas: {rates[count][-1]:.1f}/s",
                flush=True,
            )
    findings += [scaled(count, median(rates[count]), median(rates[1])) for count in args.replicas]
    lines = [f"- {count} replicas: {spread(values)}/s" for count, values in rates.items()]
    return findings, "Saturation of the repeats, median (lowest to highest):\n\n" + "\n".join(lines)


def scaled(count: int, rate: float, one: float) -> Finding:
    return Finding(
        f"{count} replicas: saturation, beside {count} times one replica",
        rate,
        "/s",
        count * one,
        f">= {SCALES:g}",
        rate >= SCALES * count * one,
    )
