"""How many processes the service is made of: options of the checks that hold for any of them."""

import argparse

from loadtests.servers.target import count_between

ENGINES = ("auto", "inline", "process")


def add_topology(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--frontends", type=count_between(1, 64), help="HTTP processes; default: the service's own"
    )
    parser.add_argument("--engine", choices=ENGINES, help="default: the service's own")


def topology(args: argparse.Namespace) -> dict[str, object]:
    """Settings by their names without the prefix; only those that were asked for."""
    asked = {"frontends": args.frontends, "engine": args.engine}
    return {name: value for name, value in asked.items() if value is not None}
