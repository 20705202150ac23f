"""One claim, measured: runs a check, writes its folder of results, says whether the claim holds."""

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from loadtests.chaos import survival
from loadtests.checks import (
    backends,
    batching,
    drain,
    duplicates,
    front,
    frontends,
    gap,
    idle,
    isolation,
    lanes,
    lengths,
    offline,
    overload,
    policy,
    replicas,
    rolling,
    saturation,
    slow,
    sts,
)
from loadtests.drivers import workloads
from loadtests.fuzz import run_attacks as attacks
from loadtests.fuzz import run_mutations as mutations
from loadtests.fuzz import schema
from loadtests.reports import finding
from loadtests.reports.record import Record
from loadtests.servers.target import cpus_argument

CHECKS: dict[str, ModuleType] = {
    "sts": sts,
    "batching": batching,
    "saturation": saturation,
    "front": front,
    "isolation": isolation,
    "idle": idle,
    "drain": drain,
    "schema": schema,
    "mutations": mutations,
    "attacks": attacks,
    "survival": survival,
    "slow": slow,
    "rolling": rolling,
    "overload": overload,
    "lanes": lanes,
    "duplicates": duplicates,
    "policy": policy,
    "lengths": lengths,
    "gap": gap,
    "replicas": replicas,
    "offline": offline,
    "backends": backends,
    "frontends": frontends,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = parser.add_subparsers(dest="check", required=True, metavar="NAME")
    for name, check in CHECKS.items():
        options = names.add_parser(
            name, help=check.TITLE.replace("%", "%%"), description=check.__doc__
        )
        add_common_arguments(options)
        check.add_arguments(options)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    workloads.add_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument("--name", help="of the folder, after the date; default: the check's")
    parser.add_argument(
        "--cpus", type=cpus_argument, help="cores of the server, as 0,1; default: any"
    )


def configuration(args: argparse.Namespace) -> dict[str, object]:
    """The options as chosen; of folders only the name, because results are public."""
    hidden = {"command", "check", "out", "name", "run"}
    return {
        name: _plain(value)
        for name, value in vars(args).items()
        if name not in hidden and value is not None
    }


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return value.name
    return sorted(value) if isinstance(value, frozenset) else value


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when everything that is judged holds."""
    check = CHECKS[args.check]
    measure: Callable[[argparse.Namespace, Record], finding.Measured] = check.measure
    record = Record(args.out, args.name or f"check-{args.check}", configuration(args))
    measured = measure(args, record)
    body = f"{finding.table(measured.findings)}\n\n{measured.notes}"
    record.finish(check.TITLE, body, {"findings": list(measured.findings)})
    return 0 if finding.holds(measured.findings) else 1
