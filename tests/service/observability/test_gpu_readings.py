"""A driver that hangs holds up neither a scrape nor the end; behind gates, without sleeping."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.observability.gpu_readings import GpuReadings
from service.placement.nvml import Driver
from service.state import AppState
from tests.service.conftest import FakeClient
from tests.service.placement.test_nvml import FakeNvml, with_devices

SOON = 0.01  # seconds; for a driver that hangs
LONG = 30.0  # and with one that answers


class HangingNvml(FakeNvml):
    """Every answer is one degree warmer, and comes once its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.degrees = 64
        self.hangs, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def nvmlDeviceGetTemperature(self, gpu: str, sensor: int) -> int:
        self.hangs.set()
        assert self.gate.wait(LONG)
        self.degrees += 1
        return self.degrees


@pytest.fixture
def nvml() -> Iterator[HangingNvml]:
    made = HangingNvml()
    yield made
    made.gate.set()


def degrees(telemetry: GpuReadings) -> Any:
    async def read() -> Any:
        return [each.values["gpu_temperature_celsius"] for each in await telemetry.read(ONE)]

    return asyncio.run(asyncio.wait_for(read(), LONG))


ONE = {"cuda:0": "a"}


def test_a_late_driver_leaves_the_last_reading_and_is_told_once(
    nvml: HangingNvml, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = GpuReadings(Driver(lambda: nvml), LONG)
    assert degrees(telemetry) == [65]
    nvml.gate.clear()
    telemetry._timeout = SOON
    assert [degrees(telemetry) for _ in range(3)] == [[65]] * 3
    [line] = caplog.messages
    assert "has not answered for 0.01 s" in line
    nvml.gate.set()
    telemetry._timeout = LONG
    assert telemetry._asked is not None
    telemetry._asked.result(LONG)  # 66, for nobody
    assert degrees(telemetry) == [67]
    telemetry.close()


def test_what_a_late_driver_told_in_the_end_is_not_lost(nvml: HangingNvml) -> None:
    telemetry = GpuReadings(Driver(lambda: nvml), SOON)
    nvml.gate.clear()
    assert degrees(telemetry) == []
    nvml.gate.set()
    assert telemetry._asked is not None
    telemetry._asked.result(LONG)
    nvml.gate.clear()
    assert degrees(telemetry) == [65]
    nvml.gate.set()
    telemetry._timeout = LONG
    telemetry.close()


def test_who_asks_meanwhile_shares_the_answer(nvml: HangingNvml) -> None:
    telemetry = GpuReadings(Driver(lambda: nvml), LONG)

    async def ask() -> list[Any]:
        nvml.gate.clear()
        asking = [asyncio.create_task(telemetry.read(ONE)) for _ in range(3)]
        await asyncio.to_thread(nvml.hangs.wait, LONG)
        asking[0].cancel()  # which is nothing to the others
        nvml.gate.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    gone, one, other = asyncio.run(ask())
    assert isinstance(gone, asyncio.CancelledError)
    assert one is other
    assert nvml.degrees == 65
    telemetry.close()


def test_the_end_joins_the_thread_and_closes_the_driver(nvml: HangingNvml) -> None:
    telemetry = GpuReadings(Driver(lambda: nvml), LONG)
    assert telemetry._thread is None  # not before it is asked
    degrees(telemetry)
    thread = telemetry._thread
    assert thread.is_alive()
    telemetry.close()
    assert not thread.is_alive()
    assert nvml.closed == 1
    assert degrees(telemetry) == []


def test_the_end_leaves_a_driver_behind_that_hangs(
    nvml: HangingNvml, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = GpuReadings(Driver(lambda: nvml), SOON)
    nvml.gate.clear()
    degrees(telemetry)
    left = telemetry._thread
    assert left is not None
    assert left.daemon  # or the process would never end
    telemetry.close()
    assert "exiting without it" in caplog.messages[-1]
    nvml.gate.set()
    left.join(LONG)
    assert nvml.closed == 1


def test_an_error_of_a_reading_is_that_of_its_scrape_and_the_next_is_read(
    nvml: HangingNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = GpuReadings(Driver(lambda: nvml), LONG)
    with monkeypatch.context() as broken:
        broken.setattr(nvml, "nvmlDeviceGetTemperature", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            degrees(telemetry)
    assert degrees(telemetry) == [65]
    telemetry.close()


def test_a_scrape_is_answered_while_the_driver_hangs(
    http: TestClient, engine: FakeClient, front: AppState, nvml: HangingNvml
) -> None:
    front.gpus = GpuReadings(Driver(lambda: nvml), SOON)
    with_devices(engine, first="a")
    nvml.gate.clear()
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert "batcher_queue_depth" in answer.text
    assert "batcher_gpu_" not in answer.text
    nvml.gate.set()
    front.gpus._timeout = LONG
    front.gpus.close()
