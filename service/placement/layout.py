"""From the settings to the place of each replica: asks the machine, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from service.cache.notes import note_path
from service.cache.profiles import content_of
from service.placement import cuda
from service.placement import nvml as gpus_tell
from service.placement.cores import available_cores, physical_cores
from service.placement.cuda import Gpus
from service.placement.memory import CUDA_CONTEXT, MIB, Need, free_host_memory, noted
from service.placement.replica_count import Machine, Placement, counts, devices_of, free_on, place
from service.repository.locate import find_local, weights_bytes
from service.settings import Settings

# Where nothing has been measured yet. Libraries and their state, beside the weights and the batch:
# 209 MiB with torch 2.13 on a CPU.
_LIBRARIES = 200 * MIB
_CUDA_LIBRARIES = 512 * MIB  # beside those, on the host: CUDA's own and its half of the context
_BATCH = 512 * MIB
_PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "openvino")
_SHAPES_MEMORY = ("dtype", "backend", "compile")  # settings


@dataclass(frozen=True, slots=True)
class Layout:
    placements: tuple[Placement, ...] = (Placement("auto"),)
    notes: tuple[str, ...] = ()  # for the log

    def lines(self) -> list[str]:
        return [
            f"replica {n} runs on {each}"
            if each.device != "auto"
            else f"replica {n} runs where its runner decides (BATCHER_DEVICE=auto)"
            for n, each in enumerate(self.placements)
        ]


def plan_layout(settings: Settings) -> Layout:
    """Raises Refused. Where there is a GPU this asks torch, in a process of its own: seconds."""
    is_ours = settings.runner == "transformers"
    gpus = cuda.find() if "cuda" in settings.device or (is_ours and _is_auto(settings)) else Gpus()
    machine = Machine(physical_cores(), available_cores(), gpus, free_host_memory())
    # What a runner of the user's own makes of `auto`, nobody knows; a simulated one is nowhere.
    devices = devices_of(settings.device, gpus) if is_ours or not _is_auto(settings) else ["auto"]
    needs, files = _needs(settings, devices, gpus) if is_ours else ({}, {})
    reserve = settings.memory_reserve_mb * MIB
    numbers = counts(devices, settings.replicas or 1, needs, machine, reserve)
    threads = 0 if settings.threads == "auto" else settings.threads
    placed = [
        replace(each, gpu_uuid=_uuid(each.device, gpus), memory_note=files.get(each.device, ""))
        for each in place(numbers, machine, threads)
    ]
    if settings.isolation == "thread":  # all of them are in this process, which is not to be bound
        placed = [replace(each, cores=()) for each in placed]
    notes = [
        _note_of(device, number, needs.get(device), free_on(device, machine))
        for device, number in numbers.items()
        if is_ours
    ]
    if not gpus_tell.is_installed() and any(each.gpu_uuid for each in placed):
        notes.append(f"no batcher_gpu_* in /metrics: {gpus_tell.ABSENT}")
    return Layout(tuple(placed), tuple(notes))


def _is_auto(settings: Settings) -> bool:
    return settings.device == "auto"


def _needs(
    settings: Settings, devices: Sequence[str], gpus: Gpus
) -> tuple[dict[str, Need | None], dict[str, str]]:
    """By device, and the file that each is noted in. None: the model has not been fetched yet."""
    folder = find_local(settings.model)
    if folder is None:
        return dict.fromkeys(devices), {}
    needs, notes = dict[str, Need | None](), dict[str, str]()
    for device in dict.fromkeys(devices):
        kind = "cpu" if device == "cpu" else gpus.each[int(device.removeprefix("cuda:"))].name
        notes[device] = _note(settings, folder, kind)
        guess = estimate(weights_bytes(folder), device)
        need = noted(notes[device]) or guess
        needs[device] = need if need.host else replace(need, host=guess.host)
    return needs, notes


def estimate(weights: int, device: str) -> Need:
    """Half of the weights at the least, on a GPU: there they often go from 32 bits to 16, but all
    of them come by way of the host."""
    if device == "cpu":
        return Need(weights + _LIBRARIES, weights + _LIBRARIES + _BATCH)
    host = weights + _LIBRARIES + _CUDA_LIBRARIES
    return Need(weights // 2 + CUDA_CONTEXT, weights + CUDA_CONTEXT + _BATCH, host=host)


def _note(settings: Settings, folder: Path, kind: str) -> str:
    """Empty: nothing is noted."""
    if not settings.cache_folder:
        return ""
    key = {
        "model": settings.model,
        "content": content_of(folder),
        "kind": kind,
        **{name: getattr(settings, name, None) for name in _SHAPES_MEMORY},
        "versions": _versions(),
    }
    return str(note_path(settings.cache_folder, "memory", key))


def _versions() -> Mapping[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _uuid(device: str, gpus: Gpus) -> str:
    return gpus.each[int(device.removeprefix("cuda:"))].uuid if device.startswith("cuda") else ""


def _note_of(device: str, number: int, need: Need | None, free: int | None) -> str:
    who = f"{number} replica{'s' * (number > 1)} on {device}"
    if need is None:
        return f"{who}; its memory needs are known once the model has been downloaded"
    source = "as measured" if need.note else "estimated from the size of its weights"
    has = "" if free is None else f"; {free / MIB:,.0f} MiB are free"
    return f"{who}, each of {need.most / MIB:,.0f} MiB at most ({source}){has}"
