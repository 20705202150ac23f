"""The console command: `batcher serve` and `batcher plan`. `python -m service` is `batcher serve`.

Light on purpose: every spawned worker imports its parent's main module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_USAGE = "usage: batcher [--help] [--version] {serve,plan} ..."
_HELP = f"""{_USAGE}

An inference service that batches requests.

  serve      start the service: batcher serve --help lists all settings
  plan       how many replicas a given traffic needs: batcher plan --help

  --version  print the version
"""
_BAD_USAGE = 2  # argparse's own


def main() -> int:
    """Of the console command, which runs in any folder. Returns the exit code."""
    # A runner of the user's own may lie in the working folder. Last: a package of that folder that
    # is called `service` must not be taken for this one.
    sys.path.append("")
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(_HELP, end="")
        return 0
    if arguments[:1] == ["--version"]:
        from service.version import VERSION

        print(f"batcher {VERSION}")
        return 0
    if arguments[:1] in (["serve"], ["plan"]):
        return run(arguments)
    problem = "a command is missing"
    if arguments:  # without its value, which may be a key
        problem = f"there is no command {arguments[0].partition('=')[0]!r}"
    print(f"{_USAGE}\nbatcher: {problem}: batcher serve starts the service", file=sys.stderr)
    return _BAD_USAGE


def run(arguments: Sequence[str]) -> int:
    """`serve` is the command where none is named. Returns the exit code."""
    name = arguments[0] if arguments[:1] in (["serve"], ["plan"]) else ""
    try:
        if name == "plan":
            from service.plan.command import main as command
        else:
            from service.main import main as command
    except ModuleNotFoundError as error:
        missing = (error.name or "service").partition(".")[0]
        if missing in ("service", "batcher"):
            raise  # a file of our own: this is a bug
        from service.errors import how_to_install

        print(
            f"batcher: the package {missing} is not installed, which is part of the extra service:"
            f" {how_to_install('service')}",
            file=sys.stderr,
        )
        return _BAD_USAGE
    return command(arguments[1:] if name else arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
