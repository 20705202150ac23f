"""Y1 to Y9: starts what it needs, measures, and prints ideal, measured, ratio and verdict.

Without names everything is measured. Default sizes take about 25 minutes; --quick
takes two and shows that it works, not how well.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests.checks.yardsticks import closed, policies, queueing, replicas
from loadtests.checks.yardsticks.bench import Bench, Sizes, late_drivers, say
from loadtests.checks.yardsticks.borrowed import BORROWED
from loadtests.drivers.target import count_between
from loadtests.reports.finding import Finding, Measured, holds, table
from loadtests.reports.options import add_common_arguments, configuration
from loadtests.reports.record import Record

QUICK = Sizes(
    alone=1.5,
    saturated=4.0,
    poisson=3.0,
    closed=3.0,
    replicas=2.0,
    pattern=2.0,
    virtual=100.0,
    rhos=(0.3, 0.7),
    replica_rhos=(0.5,),
    callers=(2, 32),
)
WAITS_MS, QUICK_WAITS_MS = (5.0, 50.0), (50.0,)  # Of the usual loop.
START_SECONDS = 3.0  # Of one server; an estimate, for the announcement only.
VIRTUAL_SECONDS = 15.0  # That the virtual time of Y5 takes to compute; likewise.
BASELINES = "baselines"

Yardstick = Callable[[Bench], list[Finding]]
ON_THE_BENCH: dict[str, Yardstick] = {
    "Y1": queueing.y1,
    "Y2": queueing.y2,
    "Y3": queueing.y3,
    "Y4": queueing.y4,
    "Y5": closed.y5,
    "Y7": replicas.y7,
}
NAMES = (*sorted({*ON_THE_BENCH, *BORROWED}), BASELINES)

NOTES = (
    "Luck is taken out of Y2 to Y5: the ideal accelerator plays the same arrivals. Y2 is measured "
    "less the computed mean of the same arrivals plus the exact mean; in Y4 it is the computed "
    "value of the identity that is taken off and put back. `overhead` is the second line of Y2. "
    "The turnaround of Y5 is a lone caller's cycle less the `total` of Server-Timing. What linger "
    "costs is judged in virtual time, where 1 % can be seen, and reported over HTTP."
)


def yardstick_argument(text: str) -> str:
    """`y1` → Y1. Raises ArgumentTypeError for what is none."""
    name = text if text == BASELINES else text.upper()
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {' '.join(NAMES)}")
    return name


def folder_argument(text: str) -> Path:
    """A folder of traces; all are read now, and not after twenty minutes of measuring."""
    folder = Path(text)
    try:
        policies.traces(folder)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument(
        "names",
        nargs="*",
        type=yardstick_argument,
        metavar="Y1 … Y9 baselines",
        help="default: all",
    )
    parser.add_argument("--quick", action="store_true", help="two minutes, to see that it works")
    parser.add_argument(
        "--arrivals-folder",
        type=folder_argument,
        metavar="DIR",
        help="traces to replay beside Poisson and bursts: CSV files with a TIMESTAMP column",
    )
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when everything that is judged holds."""
    names = [name for name in NAMES if name in args.names or not args.names]
    record = Record(args.out, args.name or "yardsticks", configuration(args))
    say(f"{' '.join(names)}: about {estimate(names, args) / 60:.0f} minutes")
    findings, notes = [], [NOTES]
    with Bench(record, QUICK if args.quick else Sizes(), args.seed, args.cpus) as bench:
        for name in names:
            started = time.monotonic()
            measured = attempt(name, args, bench)
            found = [prefixed(name, finding) for finding in measured.findings]
            findings += found
            if measured.notes:
                notes.append(f"### {name}\n\n{measured.notes}")
            say(f"\n{table(found, 'yardstick')}\n{name}: {time.monotonic() - started:.0f} s\n")
        notes += late_drivers(bench.runs)
    body = f"{table(findings, 'yardstick')}\n\n" + "\n\n".join(notes)
    record.finish("How near the best possible", body, {"findings": findings})
    return 0 if holds(findings) else 1


def attempt(name: str, args: argparse.Namespace, bench: Bench) -> Measured:
    """One that fails is a miss with its reason, and does not cost what the others measured."""
    try:
        return measure(name, args, bench)
    except (RuntimeError, OSError, ValueError, ZeroDivisionError) as error:
        bench.stop()
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        return Measured([Finding(f"not measured: {reason}", math.nan, ok=False)], str(error))


def measure(name: str, args: argparse.Namespace, bench: Bench) -> Measured:
    if name in ON_THE_BENCH:
        return Measured(ON_THE_BENCH[name](bench))
    bench.stop()  # What follows brings servers of its own, and wants the cores.
    if name == BASELINES:
        waits_ms = QUICK_WAITS_MS if args.quick else WAITS_MS
        return policies.baselines(bench, args.arrivals_folder, waits_ms)
    return BORROWED[name].measure(args, bench.record)


def prefixed(name: str, finding: Finding) -> Finding:
    return Finding(
        f"{name} {finding.what}",
        finding.measured,
        finding.unit,
        finding.ideal,
        finding.need,
        finding.ok,
    )


def estimate(names: Sequence[str], args: argparse.Namespace) -> float:
    """Seconds, roughly."""
    sizes = QUICK if args.quick else Sizes()
    waits_ms = QUICK_WAITS_MS if args.quick else WAITS_MS
    seconds = 0.0
    if {"Y1", "Y2", "Y3", "Y4", "Y5", "Y7"} & set(names):
        seconds += START_SECONDS
    if {"Y1", "Y5"} & set(names):
        seconds += sizes.saturated
    if {"Y2", "Y3", "Y4", "Y5", "Y7"} & set(names):
        seconds += sizes.alone
    if {"Y2", "Y3", "Y4"} & set(names):
        seconds += len(sizes.rhos) * sizes.poisson
    elif "Y5" in names:
        seconds += sizes.poisson
    if "Y5" in names:
        seconds += (len(sizes.callers) + 1) * sizes.closed + VIRTUAL_SECONDS
    if "Y7" in names:
        seconds += START_SECONDS + len(sizes.replica_rhos) * sizes.replicas
    if BASELINES in names:
        patterns = 2 if args.arrivals_folder is None else 4
        each = START_SECONDS + patterns * sizes.pattern + sizes.closed
        seconds += (1 + len(waits_ms)) * each
    borrowed = [BORROWED[name] for name in names if name in BORROWED]
    return seconds + sum(16.0 if args.quick else one.seconds for one in borrowed)
