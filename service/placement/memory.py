"""How much memory a replica takes: measured in its worker, noted for the next start.

Its notes are beside the others, one for each model, device and set of versions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from service.cache.notes import write
from service.placement import cgroup

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
MIB = 2**20
CUDA_CONTEXT = 512 * MIB  # of each process on each device, beside what torch counts


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that one replica takes."""

    least: int  # without a batch
    most: int  # with the largest of the profile
    note: str = ""  # the file that says so; empty: an estimate from the size of the weights
    host: int = 0  # beside a GPU's: what its process takes of the machine's own while it loads


def free_host_memory() -> int | None:
    """Bytes, the container's limit counted; None: the system does not say."""
    here = _kib(cgroup.text_of(MEMINFO), "MemAvailable")
    allowed = cgroup.free_memory()
    return min((free for free in (here, allowed) if free is not None), default=None)


def measure_host() -> tuple[int, int] | None:
    """What this process takes now and took at most, what it shares with others left out."""
    status = cgroup.text_of(STATUS)
    now, most, shared = (_kib(status, name) for name in ("VmRSS", "VmHWM", "RssFile"))
    if now is None or most is None or shared is None:
        return None
    return now - shared, most - shared


def measure_cuda(device: str) -> tuple[int, int]:
    """What this process has on the device now and had at most, its CUDA context included."""
    import torch  # in the worker, where it is loaded already

    context = CUDA_CONTEXT
    return (
        torch.cuda.memory_allocated(device) + context,
        torch.cuda.max_memory_reserved(device) + context,
    )


def note(path: str, least: int, most: int, host: int = 0) -> str:
    """Whole or not at all. Returns one line that says why it was not noted; empty: it was."""
    return write(Path(path).expanduser(), asdict(Need(least, most, host=host)))


def noted(path: str) -> Need | None:
    """None: there is no such file, or none that makes sense; it is then measured again."""
    try:
        content = json.loads(Path(path).expanduser().read_bytes())
        least, most = int(content["least"]), int(content["most"])
        host = int(content.get("host", 0))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return Need(least, most, path, host) if 0 < least <= most and host >= 0 else None


def _kib(text: str, name: str) -> int | None:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None
