"""What the container allows: cores and memory, by control groups of either version.

A limit may stand at the process's own group or at any above it; the tightest counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def quota_cores(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Cores that may be used at once, rounded up; None: all that there are."""
    told = [text_of(folder / "cpu.max") for folder in _groups("", root, own)]
    told += [
        f"{text_of(folder / 'cpu.cfs_quota_us').strip()} {text_of(folder / 'cpu.cfs_period_us')}"
        for folder in _groups("cpu", root, own)
    ]
    quotas = [cores_in(each) for each in told]
    return min((quota for quota in quotas if quota is not None), default=None)


def free_memory(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Bytes up to the limit, what the kernel would drop from its cache counted as free; None:
    there is no limit."""
    names = ("memory.max", "memory.current", "inactive_file")
    old_names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    rooms = [_room(folder, *names) for folder in _groups("", root, own)]
    rooms += [_room(folder, *old_names) for folder in _groups("memory", root, own)]
    return min((room for room in rooms if room is not None), default=None)


def cores_in(cpu_max: str) -> int | None:
    """Cores in the text of a cpu.max (`max 100000`, `150000 100000`), rounded up."""
    quota, _, period = cpu_max.strip().partition(" ")
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:
        return None
    return max(1, -(-int(quota) // int(period)))


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """The process's own group and those above it. Without a controller: of version 2."""
    base = root / controller
    for line in text_of(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):  # version 2 has none in its line
            folder = base / path.strip("/")
            while folder != base and base in folder.parents:
                yield folder
                folder = folder.parent
    yield base  # in a container the path is often that of the host, and this the group itself


def _room(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    most, used = text_of(folder / limit).strip(), text_of(folder / usage).strip()
    if not (most.isdigit() and used.isdigit()):
        return None
    droppable = 0
    for line in text_of(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == cache and value.isdigit():
            droppable = int(value)
    return max(0, int(most) - int(used) + droppable)


def text_of(path: Path) -> str:
    """Empty where there is no such file."""
    try:
        return path.read_text()
    except OSError:
        return ""
