"""`python -m loadtests`: drive a server, compare designs, check claims."""

import argparse
import signal
import sys
from typing import NoReturn

from loadtests.chaos import command as chaos
from loadtests.checks import command as check
from loadtests.checks.yardsticks import command as yardsticks
from loadtests.drivers import closedloop, openloop
from loadtests.gpu import command as gpu
from loadtests.peers import command as peers
from loadtests.peers import compare
from loadtests.revisions import interleave, trace
from loadtests.tune import command as tune

COMMANDS = {
    "openloop": (openloop, "the referee: send on schedule, whatever the server does"),
    "closedloop": (closedloop, "N callers, each waiting for its answer"),
    "compare": (compare, "our service, no batching, and the busy loop, side by side"),
    "peers": (peers, "our service beside LitServe, mosec, Ray Serve and others"),
    "check": (check, "measure one claim and write it to results/"),
    "tune": (tune, "the settings that carry the highest rate within a p95"),
    "yardsticks": (yardsticks, "how near the best possible: ideal, measured, ratio, verdict"),
    "interleave": (interleave, "a command in two checkouts in turn: is the new code slower?"),
    "trace": (trace, "the files, moves and calls of ours that one request passes"),
    "gpu": (gpu, "what the service makes of a GPU; loadtests/gpu.sh where there is no network"),
    "chaos": (chaos, "inject every fault that one machine can, and check every request"),
}


class Parser(argparse.ArgumentParser):
    """A wrong argument gets one line; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> Parser:
    made = Parser(prog="python -m loadtests", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, line) in COMMANDS.items():
        options = commands.add_parser(name, help=line, description=module.__doc__)
        module.add_arguments(options)
        options.set_defaults(run=module.run)
    return made


def main() -> int:
    args = parser().parse_args()
    # As Ctrl-C does: whoever started a server stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        status: int = args.run(args)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
