"""What a process and its descendants use, read from /proc. Linux only."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Thread:
    """One reading. `wakeups` counts how often it went to sleep of its own accord, and so woke."""

    pid: int
    tid: int
    name: str
    cpu_seconds: float
    wakeups: int

    @property
    def is_main(self) -> bool:
        return self.pid == self.tid


def tree(pid: int) -> list[int]:
    """The process and its descendants, parents first; empty when it is gone."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid] if _stat(PROC / str(pid)) else []
    for parent in found:  # Grows while it is walked.
        found.extend(children.get(parent, ()))
    return found


def parent(pid: int) -> int:
    """0 when it is gone."""
    fields = _stat(PROC / str(pid))
    return int(fields[1]) if fields else 0


def threads(pids: list[int]) -> list[Thread]:
    """Every thread of these processes that is still there."""
    found = []
    for pid in pids:
        for folder in _entries(PROC / str(pid) / "task"):
            status, run = _read(folder / "status"), _read(folder / "schedstat")
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if fields and run:
                cpu_seconds = int(run.split()[0]) / 1e9  # Exact; stat counts ticks of 10 ms.
                wakeups = int(fields["voluntary_ctxt_switches"])
                found.append(Thread(pid, int(folder.name), fields["Name"], cpu_seconds, wakeups))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time so far of these processes, exited threads included."""
    ticks = [int(f[11]) + int(f[12]) for pid in pids if (f := _stat(PROC / str(pid)))]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: list[int]) -> int:
    """Resident memory; what processes share counts once for each."""
    return sum(int(f[21]) * PAGE for pid in pids if (f := _stat(PROC / str(pid))))


def descriptors(pids: list[int]) -> int:
    """Open files and sockets of these processes."""
    return sum(len(_entries(PROC / str(pid) / "fd")) for pid in pids)


def command(pid: int) -> str:
    return _read(PROC / str(pid) / "cmdline").replace("\0", " ").strip()


def _stat(folder: Path) -> list[str]:
    """The fields of stat from the state on: the name before them may hold spaces."""
    return _read(folder / "stat").rpartition(")")[2].split()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # The process ended between the listing and now.


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # The process ended between the listing and now.
