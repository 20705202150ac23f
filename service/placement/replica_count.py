"""How many replicas, and where each runs. Decisions only: what the machine has is handed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.placement.cores import Core, ranges, share_out
from service.placement.cuda import Gpus
from service.placement.memory import MIB, Need

# What `auto` starts at most. Processes take turns on a GPU: a few hide what each leaves idle, more
# only divide it. On a CPU a forward pass still gains from its fourth core, and more rarely.
MOST_ON_A_GPU = 4
CORES_OF_A_REPLICA = 4

Asked = int | Literal["auto"]


class Refused(Exception):
    """This machine has not what the settings ask for. One line, for whoever started it."""


@dataclass(frozen=True, slots=True)
class Machine:
    cores: Sequence[Core]
    quota: int  # cores that may be used at once
    gpus: Gpus
    host_free: int | None  # bytes; None: nobody knows


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one replica runs."""

    device: str  # cpu, cuda:0; auto: that is up to the runner
    cores: tuple[int, ...] = ()  # the only ones that it uses; empty: any
    threads: int = 0  # 0: it sees for itself
    gpu_uuid: str = ""
    memory_note: str = ""  # the file for what it needs; empty: that is not noted

    def __str__(self) -> str:
        parts = [self.device]
        if self.cores:
            parts.append(f"core{'s' * (len(self.cores) > 1)} {ranges(self.cores)}")
        if self.threads:
            parts.append(f"{self.threads} thread{'s' * (self.threads > 1)}")
        return ", ".join(parts)


def devices_of(wanted: str, gpus: Gpus) -> list[str]:
    """The devices of BATCHER_DEVICE, each as often as it is listed. `auto`: each CUDA device once,
    without any the CPU. Raises Refused."""
    count = len(gpus.each)
    if wanted == "auto":
        return [f"cuda:{number}" for number in range(count)] or ["cpu"]
    names = ["cuda:0" if name == "cuda" else name for name in wanted.split(",")]
    for name in names:
        if name == "cpu" or int(name.removeprefix("cuda:")) < count:
            continue
        why = f"this machine has {count}, the last is cuda:{count - 1}" if count else gpus.why
        raise Refused(f"BATCHER_DEVICE={wanted}: there is no device {name!r}: {why}")
    return names


def counts(
    devices: Sequence[str],
    asked: Asked,
    needs: Mapping[str, Need | None],
    machine: Machine,
    reserve: int,
) -> dict[str, int]:
    """Replicas by device. `needs` by device; None: nobody knows, so nothing is refused and `auto`
    is 1 on a GPU. `reserve` in bytes. Raises Refused."""
    found = {}
    times = Counter(devices)
    taken = 0  # of the host's memory, by those on the devices before
    for before, device in enumerate(times):
        need = needs.get(device)
        claims = _claims(device, need, machine, reserve, taken) if need is not None else []
        number = _most(device, machine, need) if asked == "auto" else asked * times[device]
        for claim in claims if asked == "auto" else ():
            # What is the host's is for the devices to come too.
            shares = len(times) - before if claim.is_host else 1
            number = max(1, min(number, claim.room // shares // claim.most))
        for claim in claims:
            needed = claim.needed(number)
            if needed > claim.room and claim.is_known:
                raise Refused(_too_little(claim, number, needed, reserve))
            taken += needed if claim.is_host else 0
        found[device] = number
    return found


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a replica on a device takes of one memory: the device's, or the host's. In bytes."""

    what: str  # for whoever reads that there is too little
    is_host: bool
    is_known: bool  # else it is a guess that is not to refuse anybody
    least: int
    most: int
    source: str
    free: int
    room: int  # of what is free, without the reserve and what others take

    def needed(self, number: int) -> int:
        # One alone may yet learn to make do with smaller batches.
        return self.least if number == 1 else number * self.most


def _claims(device: str, need: Need, machine: Machine, reserve: int, taken: int) -> list[_Claim]:
    """Of no memory of which nobody knows what is free."""
    source = f"as measured, {need.note}" if need.note else "estimated from the size of its weights"
    own, host = free_on(device, machine), machine.host_free
    on_cpu = device == "cpu"
    found = []
    if own is not None:
        room = own - reserve - (taken if on_cpu else 0)
        what = f"memory on {device}"
        found.append(_Claim(what, on_cpu, True, need.least, need.most, source, own, room))
    if host is not None and need.host and not on_cpu:
        # Each worker is a process, through whose memory its model goes on the way to the device;
        # not all of it at once where its file is mapped, which no estimate knows.
        room = host - reserve - taken
        what = f"host memory for {device}"
        found.append(_Claim(what, True, bool(need.note), need.host, need.host, source, host, room))
    return found


def free_on(device: str, machine: Machine) -> int | None:
    """Bytes."""
    if device == "cpu":
        return machine.host_free
    number = device.removeprefix("cuda:")
    if number.isdigit() and int(number) < len(machine.gpus.each):
        return machine.gpus.each[int(number)].free
    return None


def place(numbers: Mapping[str, int], machine: Machine, threads: int) -> list[Placement]:
    """Device after device in turn, so that the first replicas are on different ones. `threads` of
    each; 0: as many as a replica has cores."""
    left, order = Counter(numbers), list[str]()
    while left := +left:
        order += left
        left -= Counter(list(left))
    on_cpu = numbers.get("cpu", 0)
    shares = iter(share_out(machine.cores, machine.quota, on_cpu, threads) if on_cpu else ())
    placements = []
    for device in order:
        if device == "cpu":
            share = next(shares)
            placements.append(Placement(device, share.cores, share.threads))
        else:
            placements.append(Placement(device, threads=threads))
    return placements


def _most(device: str, machine: Machine, need: Need | None) -> int:
    if device == "cpu":
        return max(1, min(machine.quota, len(machine.cores)) // CORES_OF_A_REPLICA)
    if need is None:
        return 1
    # Each keeps a core of the host busy with queueing what its device is to do.
    return max(1, min(MOST_ON_A_GPU, machine.quota // max(1, len(machine.gpus.each))))


def _too_little(claim: _Claim, number: int, needed: int, reserve: int) -> str:
    who = f"{number} replicas need" if number > 1 else "a replica needs"
    each = f"{_mib(claim.most)} each, " if number > 1 else ""
    others = claim.free - reserve - claim.room
    less = f" and {_mib(others)} for the other devices" if others else ""
    return (
        f"too little {claim.what}: {who} {_mib(needed)} ({each}{claim.source}), and"
        f" {_mib(max(0, claim.room))} are free ({_mib(claim.free)} less"
        f" BATCHER_MEMORY_RESERVE_MB={reserve // MIB}{less})"
    )


def _mib(value: int) -> str:
    return f"{value / MIB:,.0f} MiB"
