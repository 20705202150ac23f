"""stub"""

from loadtests.record import Record


def run(minutes: float, record: Record) -> int:
    raise NotImplementedError
