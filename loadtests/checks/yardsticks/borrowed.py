"""Y6, Y8, Y9: checks that measure a yardstick already."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtests.checks import command as check
from loadtests.reports.finding import Measured
from loadtests.reports.options import add_common_arguments
from loadtests.reports.record import Record


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A check by name, its options for a short run, and what a full run of it takes, in seconds."""

    check: str
    quick: tuple[str, ...]
    seconds: float

    def measure(self, args: argparse.Namespace, record: Record) -> Measured:
        measure: Callable[[argparse.Namespace, Record], Measured]
        measure = check.CHECKS[self.check].measure
        return measure(self.options(args), record)

    def options(self, args: argparse.Namespace) -> argparse.Namespace:
        """The check's own defaults, and of `args` what every check takes."""
        parser = argparse.ArgumentParser(prog=self.check)
        add_common_arguments(parser)
        check.CHECKS[self.check].add_arguments(parser)
        options = parser.parse_args(self.quick if args.quick else ())
        options.sentences, options.cpus = args.sentences, args.cpus
        return options


BORROWED: Mapping[str, Borrowed] = {
    "Y6": Borrowed("overload", ("--factors", "3", "--seconds", "5", "--repeats", "1"), 180),
    "Y8": Borrowed("lengths", ("--only", "simulated", "--mixes", "90/10", "--seconds", "3"), 480),
    "Y9": Borrowed("idle", ("--runner", "simulated", "--seconds", "5", "--load-seconds", "2"), 90),
}
