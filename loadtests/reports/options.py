"""The options that most commands share, and how a record names what was chosen."""

import argparse
from pathlib import Path

from loadtests.drivers import workloads
from loadtests.drivers.target import cpus_argument


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
