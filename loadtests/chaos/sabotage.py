"""The service, sabotaged from inside its own process: `... sabotage DRILL [flags of the service]`.

A drill is for faults that cannot be injected from outside: a thread that dies, a loop that blocks,
a process without descriptors, a disk without room.
"""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

from loadtests.chaos.injections import acknowledge

DESCRIPTORS = 64
BLOCKED_SECONDS = 2.0
HOUR = 3600.0


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    acknowledge("few-descriptors", standing=True)


def no_room() -> None:
    """Every write to the log fails with ENOSPC, and there is nowhere for temporary files."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.dup2(full, 2)
    os.environ["TMPDIR"] = "/nonexistent"
    try:
        os.write(2, b"no room for this")
    except OSError:
        acknowledge("no-room", standing=True)


def blocks() -> None:
    """SIGUSR1 stops the event loop's thread, as a long collection or a full pipe would."""

    def block(*_: object) -> None:
        time.sleep(BLOCKED_SECONDS)
        acknowledge("blocks")

    signal.signal(signal.SIGUSR1, block)


def thread_dies() -> None:
    """From SIGUSR1 on, the batching thread meets a bug when it next asks for a batch."""
    from batcher.collector import Collector

    broken = threading.Event()
    signal.signal(signal.SIGUSR1, lambda number, frame: broken.set())
    ask = Collector.next_batch

    def next_batch(self: Collector, *arguments: int) -> object:
        if broken.is_set():
            acknowledge("thread-dies")
            raise AssertionError("injected: the batching thread dies")
        return ask(self, *arguments)

    Collector.next_batch = next_batch  # type: ignore[method-assign,assignment]  # sabotage


def clock() -> None:
    """SIGUSR1 and SIGUSR2 set the wall clock of this process an hour ahead and back.

    Python's own, `time.time`: a fake of the C library's (libfaketime) stops threads that wait on a
    condition, which no clock of a real machine does.
    """
    right, ahead = time.time, [0.0]

    def step(seconds: float) -> None:
        ahead[0] += seconds
        acknowledge("clock")

    time.time = lambda: right() + ahead[0]
    signal.signal(signal.SIGUSR1, lambda number, frame: step(HOUR))
    signal.signal(signal.SIGUSR2, lambda number, frame: step(-HOUR))


DRILLS: dict[str, Callable[[], None]] = {
    "few-descriptors": few_descriptors,
    "no-room": no_room,
    "blocks": blocks,
    "thread-dies": thread_dies,
    "clock": clock,
}


def main() -> int:
    DRILLS[sys.argv[1]]()
    from service.main import main as service

    return service(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
