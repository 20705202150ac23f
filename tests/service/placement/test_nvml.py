"""GpuReadings, from a driver that is made up."""

from __future__ import annotations

import re
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from batcher.runner import RunnerInfo
from service.observability.gpu_readings import GpuReadings
from service.placement.nvml import FIGURES, Driver, free_memory
from service.state import AppState
from tests.service.conftest import FakeClient

MIB = 2**20


class FakeNvml:
    """As nvidia-ml-py: one whole device, one slice of another that does not tell its energy."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, works: bool = True) -> None:
        self.works = works
        self.opened = self.closed = 0
        self.asked_in: set[str] = set()

    def nvmlInit(self) -> None:
        self.opened += 1
        if not self.works:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked_in.add(threading.current_thread().name)
        if uuid not in ("GPU-a", "MIG-b"):
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetUtilizationRates(self, gpu: str) -> Any:
        return SimpleNamespace(gpu=37)

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> Any:
        return SimpleNamespace(total=100 * MIB, used=30 * MIB)

    def nvmlDeviceGetPowerUsage(self, gpu: str) -> int:
        return 312_500  # milliwatts

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:
        if gpu == "MIG-b":
            raise self.NVMLError("Not Supported")
        return 9_000_500  # millijoules

    def nvmlDeviceGetTemperature(self, gpu: str, sensor: int) -> int:
        return 64


def absent() -> Any:
    raise ImportError("No module named 'pynvml'")


def with_devices(engine: FakeClient, **uuids: str) -> None:
    engine.up = False
    for number, uuid in enumerate(uuids.values()):
        facts = {"placed_on": f"cuda:{number}", **({"gpu_uuid": uuid} if uuid else {})}
        engine.collector.replica_up(number, RunnerInfo.from_facts(facts))


def test_readings_are_in_base_units_and_what_a_device_does_not_tell_is_left_out() -> None:
    nvml = FakeNvml()
    driver = Driver(lambda: nvml)
    whole, part = driver.read({"cuda:0": "a", "cuda:1": "b", "cuda:2": "gone"})
    assert whole.device == "cuda:0"
    assert whole.values == {
        "gpu_utilisation_ratio": 0.37,
        "gpu_memory_used_bytes": 30 * MIB,
        "gpu_memory_total_bytes": 100 * MIB,
        "gpu_power_watts": 312.5,
        "gpu_energy_joules": 9000.5,
        "gpu_temperature_celsius": 64,
    }
    assert part.values.keys() == whole.values.keys() - {"gpu_energy_joules"}


def test_the_driver_is_opened_with_the_first_reading_and_closed_once() -> None:
    nvml = FakeNvml()
    driver = Driver(lambda: nvml)
    assert nvml.opened == 0
    driver.read({"cuda:0": "a"})
    driver.read({"cuda:0": "a"})
    driver.close()
    driver.close()
    assert (nvml.opened, nvml.closed) == (1, 1)
    assert driver.read({"cuda:0": "a"}) == []


def test_a_driver_that_does_not_answer_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    nvml = FakeNvml(works=False)
    driver = Driver(lambda: nvml)
    assert [driver.read({"cuda:0": "a"}) for _ in range(3)] == [[], [], []]
    assert len(caplog.messages) == nvml.opened == 1
    assert "Driver Not Loaded" in caplog.messages[0]
    driver.close()
    assert nvml.closed == 0


def test_without_the_package_there_is_nothing() -> None:
    assert Driver(absent).read({"cuda:0": "a"}) == []
    assert free_memory("a", absent) is None


def test_free_memory_is_that_of_the_device_asked_for() -> None:
    assert free_memory("a", FakeNvml) == 70 * MIB
    assert free_memory("gone", FakeNvml) is None


def test_a_scrape_tells_the_devices_that_replicas_are_on(
    http: TestClient, engine: FakeClient, front: AppState
) -> None:
    nvml = FakeNvml()
    front.gpus = GpuReadings(Driver(lambda: nvml))
    with_devices(engine, first="a")
    text = http.get("/metrics").text
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert {f"batcher_{figure.name}" for figure in FIGURES} <= families.keys()
    for figure in FIGURES:
        family = families[f"batcher_{figure.name}"]
        assert family.type == ("counter" if figure.is_counter else "gauge")
        assert re.search(r"_(ratio|bytes|watts|joules|celsius)$", family.name)
        [sample] = family.samples
        assert sample.labels == {"device": "cuda:0"}
        assert sample.name.endswith("_total") == figure.is_counter
    assert nvml.asked_in == {"gpu-readings"}
    front.gpus.close()


def test_where_no_replica_is_on_a_gpu_the_driver_is_not_asked(
    http: TestClient, engine: FakeClient, front: AppState
) -> None:
    nvml = FakeNvml()
    front.gpus = GpuReadings(Driver(lambda: nvml))
    with_devices(engine, first="")
    assert "batcher_gpu_" not in http.get("/metrics").text
    assert nvml.opened == 0
