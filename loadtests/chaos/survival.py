"""Who survives a culprit, a killed worker, a poison, too little memory, clients that leave?

On the simulated accelerator, and of every request: what became of it, and whose vector it got.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product

from loadtests.chaos.bench import Bench
from loadtests.chaos.command import write_raw
from loadtests.chaos.culprits import culprit, memory
from loadtests.chaos.disconnects import WAVE, disconnects
from loadtests.chaos.losses import kill, poison
from loadtests.drivers.pinning import pinned
from loadtests.drivers.reference_answers import ASKS
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers.launch import add_topology, topology

TITLE = "Survival: everybody but the culprit gets the right answer"
Part = Callable[[Bench, argparse.Namespace], list[Finding]]
PARTS: Mapping[str, Part] = {
    "culprit": culprit,
    "kill": kill,
    "poison": poison,
    "memory": memory,
    "disconnects": disconnects,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="kill,poison", type=_parts, default=list(PARTS))
    parser.add_argument("--rounds", type=count_between(1, 2000), default=200, help="of culprit")
    parser.add_argument("--kills", type=count_between(1, 500), default=50)
    parser.add_argument("--poisons", type=count_between(1, 50), default=5)
    parser.add_argument("--hangs", type=count_between(1, 10), default=2, help="of each kind")
    parser.add_argument("--seconds", type=number_between(61, 3600), default=180.0, help="of memory")
    parser.add_argument(
        "--clients", type=count_between(WAVE, 10_000), default=1000, help="that leave"
    )
    parser.add_argument("--tasks", choices=ASKS, nargs="+", default=["embed"])
    add_topology(parser)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings, lines = [], []
    for task, name in product(args.tasks, args.only):
        # `auto` is for vectors; the others are asked for by their names.
        settings = {**topology(args), **({} if task == "embed" else {"task": task})}
        began, bench = time.monotonic(), Bench(topology=settings, ask=ASKS[task])
        part = name if task == "embed" else f"{task}-{name}"
        try:
            with pinned(args.cpus):
                found = PARTS[name](bench, args)
            write_raw(record, part, bench.history)
        finally:
            bench.stop()
        if task != "embed":
            found = [replace(one, what=f"{task}, {one.what}") for one in found]
        lines.append(f"- {part}: {time.monotonic() - began:.0f} s")
        print(lines[-1], *found, sep="\n", flush=True)
        findings += found
    return Measured(findings, "How long each part took:\n\n" + "\n".join(lines))


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(
            f"no part {', '.join(sorted(unknown))}: {', '.join(PARTS)}"
        )
    return names
