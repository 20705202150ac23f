"""What a process tree holds, read from /proc, and whether more is held than before."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.chaos.invariants import Violation
from loadtests.servers import procfs as processes
from loadtests.servers.procfs import PROC

POOL_THREADS = 6  # The HTTP process starts those of its thread pool when it first needs them.


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process."""

    pid: int
    resident_mb: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Of the service: its front, then its workers; what has ended is in `zombies`."""

    usages: Sequence[Usage]
    zombies: int
    shared: int  # Files of /dev/shm that a process has mapped or open.

    @property
    def front(self) -> Usage:
        return self.usages[0]

    def __str__(self) -> str:
        front = self.front
        return (
            f"{len(self.usages)} processes; front {front.resident_mb:.1f} MiB,"
            f" {front.descriptors} descriptors, {front.threads} threads"
        )


def read(pid: int) -> Resources:
    """Of `pid` and its descendants."""
    pids = processes.tree(pid)
    zombies = [one for one in pids if _state(one) == "Z"]
    living = [one for one in pids if one not in zombies]
    usages = [usage(one) for one in living]
    return Resources(usages, len(zombies), sum(_shared(one) for one in living))


def usage(pid: int) -> Usage:
    folder = PROC / str(pid)
    return Usage(
        pid,
        processes.resident_bytes([pid]) / 2**20,
        len(_listed(folder / "fd")),
        len(_listed(folder / "task")),
    )


def compare(before: Resources, after: Resources, growth_mb: float) -> list[Violation]:
    """Workers are replaced by faults: of them only the number is compared, and the descriptors."""
    found = []
    grown = after.front.resident_mb - before.front.resident_mb
    if grown > growth_mb:
        found.append(f"the front holds {grown:.1f} MiB more (allowed: {growth_mb:g})")
    for what, was, now, spare in (
        ("processes", len(before.usages), len(after.usages), 0),
        ("descriptors of the front", before.front.descriptors, after.front.descriptors, 0),
        ("threads of the front", before.front.threads, after.front.threads, POOL_THREADS),
        ("descriptors of a worker", _most(before), _most(after), 0),
        ("zombies", 0, after.zombies, 0),
        ("files of shared memory", before.shared, after.shared, 0),
    ):
        if now > was + spare:
            found.append(f"{now - was} more {what} ({was} → {now})")
    return [Violation("I6", what) for what in found]


def _most(resources: Resources) -> int:
    return max((usage.descriptors for usage in resources.usages[1:]), default=0)


def _state(pid: int) -> str:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""  # It ended between the listing and now.


def _shared(pid: int) -> int:
    folder = PROC / str(pid)
    try:
        maps = (folder / "maps").read_text().splitlines()
    except OSError:
        return 0  # Likewise.
    mapped = {line.split()[-1] for line in maps if "/dev/shm/" in line}
    links = {_target(link) for link in _listed(folder / "fd")}
    return len(mapped | {link for link in links if link.startswith("/dev/shm/")})


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # Closed since.


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # The process ended.
