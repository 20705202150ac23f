"""What NVIDIA's driver tells of a device: read when somebody asks, through nvidia-ml-py.

That package is the extra `gpu`: where it is absent, or the driver is, nothing is told.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batcher import Snapshot
from service.errors import how_to_install

ABSENT = f"nvidia-ml-py is not installed: {how_to_install('gpu')}"

_log = logging.getLogger("service")


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is told of each device, in base units."""

    name: str
    help: str
    read: Callable[[Any, Any], float]  # of nvidia-ml-py and a handle
    is_counter: bool = False


FIGURES = (
    Figure(
        "gpu_utilisation_ratio",
        "Share of the driver's last sample in which the device was busy, with any program.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    Figure(
        "gpu_memory_used_bytes",
        "Memory of the device in use, by any program.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    ),
    Figure(
        "gpu_memory_total_bytes",
        "Total memory of the device.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    Figure(
        "gpu_power_watts",
        "Power draw of the device.",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    ),
    Figure(
        "gpu_energy_joules",
        "Energy used by the device since its driver was loaded.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
        is_counter=True,
    ),
    Figure(
        "gpu_temperature_celsius",
        "Temperature of the device.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    ),
)


@dataclass(frozen=True, slots=True)
class Reading:
    device: str
    values: Mapping[str, float]  # by the figure's name; what the device does not tell is missing


def is_installed() -> bool:
    return importlib.util.find_spec("pynvml") is not None


def devices_in(snapshot: Snapshot) -> dict[str, str]:
    """The CUDA devices that replicas have come up on, with their UUIDs."""
    infos = [replica.info for replica in snapshot.replicas]
    return {each.placed_on: each.gpu_uuid for each in infos if each.gpu_uuid}


class Driver:
    """Every call may block for as long as NVIDIA's driver does. For one thread."""

    def __init__(self, load: Callable[[], Any] | None = None) -> None:
        self._load = load or _load
        self._nvml: Any = None
        self._why_not: str | None = None  # None: not tried yet; empty: it works

    def read(self, devices: Mapping[str, str]) -> list[Reading]:
        """`devices`: UUIDs by name."""
        if self._open():
            return []
        return [
            Reading(device, values)
            for device, uuid in devices.items()
            if (values := self._values(uuid))
        ]

    def close(self) -> None:
        nvml, self._nvml, self._why_not = self._nvml, None, "closed"
        if nvml is not None:
            nvml.nvmlShutdown()

    def _open(self) -> str:
        """Once. Returns why there is nothing to be read; empty: there is."""
        if self._why_not is None:
            try:
                nvml = self._load()
            except ImportError:  # said at the start
                self._why_not = ABSENT
                return self._why_not
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                self._why_not = f"NVIDIA's driver does not answer: {error}"
                _log.warning("no batcher_gpu_* in /metrics: %s", self._why_not)
            else:
                self._nvml, self._why_not = nvml, ""
        return self._why_not

    def _values(self, uuid: str) -> dict[str, float]:
        gpu = _handle(self._nvml, uuid)
        values = {}
        for figure in FIGURES if gpu is not None else ():
            try:
                values[figure.name] = float(figure.read(self._nvml, gpu))
            except self._nvml.NVMLError:  # not every device tells everything; a part of one little
                continue
        return values


def free_memory(uuid: str, load: Callable[[], Any] | None = None) -> int | None:
    """Bytes; None: NVIDIA's driver cannot be asked."""
    driver = Driver(load)
    try:
        values = [reading.values for reading in driver.read({"": uuid})]
    finally:
        driver.close()
    names = ("gpu_memory_total_bytes", "gpu_memory_used_bytes")
    if not values or any(name not in values[0] for name in names):
        return None
    total, used = (int(values[0][name]) for name in names)
    return total - used


def _handle(nvml: Any, uuid: str) -> Any:
    for whole in ("GPU-" + uuid, "MIG-" + uuid):  # torch tells it without the kind
        try:
            return nvml.nvmlDeviceGetHandleByUUID(whole)
        except nvml.NVMLError:
            continue
    return None


def _load() -> Any:
    import pynvml

    return pynvml
