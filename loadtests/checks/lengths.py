"""Do texts of mixed length cost what they must? On a simulated accelerator and the real model.

`simulated`: where a padded token costs, against the best split of 128 sorted texts and against
arrival order. `real`: the default model, against no batching and against arrival order.
"""

import argparse
from collections.abc import Callable, Mapping

from loadtests.checks.padded import padded
from loadtests.checks.realtexts import real_texts
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers.target import count_between, number_between
from loadtests.theory.length_split import MIXES

TITLE = "Texts of mixed length: padding and throughput, against the best split and arrival order"
Part = Callable[[argparse.Namespace, Record], tuple[list[Finding], str]]
PARTS: Mapping[str, Part] = {"simulated": padded, "real": real_texts}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS))
    parser.add_argument("--mixes", choices=MIXES, nargs="*", default=list(MIXES))
    parser.add_argument("--seconds", type=number_between(3, 300), default=20.0, help="of each run")
    parser.add_argument(
        "--callers", type=count_between(1, 1024), default=256, help="of the accelerator"
    )
    parser.add_argument(
        "--real-callers", type=count_between(1, 1024), default=64, help="of the real model"
    )
    parser.add_argument("--repeats", type=count_between(1, 9), default=3, help="of the real model")
    parser.add_argument(
        "--threads", type=count_between(1, 256), default=1, help="of each forward of it"
    )
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings, notes = [], []
    for name in args.only:
        found, told = PARTS[name](args, record)
        findings += found
        notes.append(told)
    return Measured(findings, "\n\n".join(notes))
