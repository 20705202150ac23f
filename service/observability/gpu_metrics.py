"""batcher_gpu_*: what the driver told, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from batcher import Snapshot
from service.observability.gpu_readings import GpuReadings
from service.placement.nvml import FIGURES, Reading, devices_in


async def page(telemetry: GpuReadings, snapshot: Snapshot) -> bytes:
    """Empty where no replica is on a GPU."""
    devices = devices_in(snapshot)
    return exposition(await telemetry.read(devices)) if devices else b""


def exposition(readings: Sequence[Reading]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(readings))
    return generate_latest(registry)


class _Collector:
    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        for figure in FIGURES:
            kind = CounterMetricFamily if figure.is_counter else GaugeMetricFamily
            family = kind(f"batcher_{figure.name}", figure.help, labels=("device",))
            for reading in self._readings:
                if figure.name in reading.values:
                    family.add_metric((reading.device,), reading.values[figure.name])
            if family.samples:
                yield family
