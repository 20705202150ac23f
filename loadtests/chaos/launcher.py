"""The service, sabotaged from inside its own process: `... launcher DRILL [flags of the service]`.

A drill is for faults that cannot be injected from outside: a thread that dies, a loop that blocks,
a process without descriptors, a disk without room.
"""

import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

DESCRIPTORS = 64
BLOCKED_SECONDS = 2.0
CLOCK = Path(tempfile.gettempdir(), "loadtests-chaos-clock")


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def no_room() -> None:
    """Every write to the log fails with ENOSPC, and there is nowhere for temporary files."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.dup2(full, 2)
    os.environ["TMPDIR"] = "/nonexistent"


def blocks() -> None:
    """SIGUSR1 stops the event loop's thread, as a long collection or a full pipe would."""
    signal.signal(signal.SIGUSR1, lambda number, frame: time.sleep(BLOCKED_SECONDS))


def thread_dies() -> None:
    """From SIGUSR1 on, the batching thread meets a bug when it next asks for a batch."""
    from batcher.collector import Collector

    broken = threading.Event()
    signal.signal(signal.SIGUSR1, lambda number, frame: broken.set())
    ask = Collector.next_batch

    def next_batch(self: Collector, *arguments: int) -> object:
        batch = ask(self, *arguments)
        if broken.is_set():
            raise AssertionError("injected: the batching thread dies")
        return batch

    Collector.next_batch = next_batch  # type: ignore[method-assign,assignment]  # sabotage


def clock() -> None:
    """From now on the wall clock is what CLOCK says; the monotonic one is the kernel's."""
    CLOCK.write_text("+0")
    if "LD_PRELOAD" in os.environ:
        return
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        sys.exit("libfaketime is not installed here")
    fake = {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(CLOCK),
        "FAKETIME_CACHE_DURATION": "0",
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "1",
    }
    os.execve(sys.executable, sys.orig_argv, os.environ | fake)


DRILLS: dict[str, Callable[[], None]] = {
    "few-descriptors": few_descriptors,
    "no-room": no_room,
    "blocks": blocks,
    "thread-dies": thread_dies,
    "clock": clock,
}


def main() -> int:
    DRILLS[sys.argv[1]]()
    from service.launch import main as service

    return service(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
