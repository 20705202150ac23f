"""What the stages of a model of the user's own are doing, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, Metric

from batcher import Snapshot
from service.observability.families import add, counter, gauge

_STAGE = ("stage",)


def stages(snapshot: Snapshot) -> Iterator[Metric]:
    by_name = snapshot.stages.items()
    yield gauge(
        "stage_inputs_inside",
        "Inputs that wait for this stage or are in it.",
        [((name,), stage.inside) for name, stage in by_name],
        _STAGE,
    )
    yield counter(
        "stage_inputs",
        "Inputs that this stage has finished, by outcome.",
        [
            ((name, outcome), count)
            for name, stage in by_name
            for outcome, count in (("ok", stage.ok), ("failed", stage.failed))
        ],
        ("stage", "outcome"),
    )
    waits = HistogramMetricFamily(
        "batcher_stage_queue_wait_seconds",
        "Time that each input waited for this stage.",
        labels=_STAGE,
    )
    times = HistogramMetricFamily(
        "batcher_stage_seconds",
        "Time of each input in this stage; in predict that of its batch.",
        labels=_STAGE,
    )
    for name, stage in by_name:
        add(waits, stage.queue_wait, (name,))
        add(times, stage.seconds, (name,))
    yield waits
    yield times
    workers = snapshot.cpu_workers
    yield gauge(
        "cpu_worker_up",
        "1 while this CPU process can take an input.",
        [((str(worker.index),), int(worker.up)) for worker in workers],
        ("worker",),
    )
    yield counter(
        "cpu_worker_busy_seconds",
        "Time that this CPU process spent on inputs.",
        [((str(worker.index),), worker.busy_seconds) for worker in workers],
        ("worker",),
    )
    yield counter(
        "cpu_worker_restarts",
        "CPU processes that died or were replaced, by cause.",
        [
            ((str(worker.index), reason), count)
            for worker in workers
            for reason, count in worker.restarts.items()
        ],
        ("worker", "reason"),
    )
