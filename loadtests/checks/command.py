"""One claim, measured: runs a check, writes its folder of results, says whether the claim holds."""

import argparse
from collections.abc import Callable
from types import ModuleType

from loadtests.chaos import survival
from loadtests.checks import (
    backends,
    batching,
    dialects,
    drain,
    duplicates,
    front,
    frontends,
    gap,
    idle,
    isolation,
    lanes,
    lengths,
    mixing,
    offline,
    overload,
    policy,
    replicas,
    rerank,
    rolling,
    saturation,
    slow,
    sparse,
    sts,
)
from loadtests.checks.models import check as models
from loadtests.fuzz import run_attacks as attacks
from loadtests.fuzz import run_mutations as mutations
from loadtests.fuzz import schema
from loadtests.reports import finding
from loadtests.reports.options import add_common_arguments, configuration
from loadtests.reports.record import Record

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
    "sparse": sparse,
    "rerank": rerank,
    "models": models,
    "rolling": rolling,
    "overload": overload,
    "lanes": lanes,
    "duplicates": duplicates,
    "policy": policy,
    "lengths": lengths,
    "mixing": mixing,
    "dialects": dialects,
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


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when everything that is judged holds."""
    check = CHECKS[args.check]
    measure: Callable[[argparse.Namespace, Record], finding.Measured] = check.measure
    record = Record(args.out, args.name or f"check-{args.check}", configuration(args))
    measured = measure(args, record)
    body = f"{finding.table(measured.findings)}\n\n{measured.notes}"
    record.finish(check.TITLE, body, {"findings": list(measured.findings)})
    return 0 if finding.holds(measured.findings) else 1
