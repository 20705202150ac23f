"""The engine's snapshot and what the frontends have counted, in Prometheus' text format.

Nothing is kept in prometheus-client's own counters: it only writes the format, at each scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    HistogramMetricFamily,
    Metric,
)

from batcher import Snapshot
from service.observability.families import add, counter, gauge
from service.observability.http_counts import Counts
from service.observability.stage_metrics import stages

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(
    snapshot: Snapshot, http: Counts, frontends: Mapping[int, bool], version: str, model: str
) -> bytes:
    """`frontends`: of each, whether what it has counted is of now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot, http, frontends, version, model))
    return generate_latest(registry)


class _Collector:
    def __init__(
        self,
        snapshot: Snapshot,
        http: Counts,
        frontends: Mapping[int, bool],
        version: str,
        model: str,
    ) -> None:
        self._snapshot = snapshot
        self._http_counts = http
        self._frontends = frontends
        self._version = version
        self._model = model

    def collect(self) -> Iterable[Metric]:
        yield from self._http()
        yield from self._engine()
        yield from self._batches()
        yield from self._replicas()
        if self._snapshot.stages:
            yield from stages(self._snapshot)
        yield gauge(
            "build_info",
            "Always 1; its labels say what is running.",
            [((self._version, self._model), 1)],
            ("version", "model"),
        )

    def _http(self) -> Iterator[Metric]:
        yield counter(
            "requests",
            "HTTP requests by route and outcome.",
            [(key, each.count) for key, each in self._http_counts.items()],
            ("route", "outcome"),
        )
        durations = HistogramMetricFamily(
            "batcher_request_duration_seconds",
            "Time from the arrival of an HTTP request to the end of its response.",
            labels=("route", "outcome"),
        )
        for labels, histogram in self._http_counts.items():
            add(durations, histogram, labels)
        yield durations
        if self._frontends:
            yield gauge(
                "front_up",
                "1 if this frontend answered this scrape; 0 if not: its HTTP counts are from an"
                " earlier scrape.",
                [((str(number),), int(is_fresh)) for number, is_fresh in self._frontends.items()],
                ("front",),
            )

    def _engine(self) -> Iterator[Metric]:
        now = self._snapshot
        ended = {"ok": now.ok, "failed": now.failed, "expired": now.expired}
        ended["cancelled"] = now.cancelled
        yield counter("inputs_accepted", "Inputs accepted into the queue.", [((), now.accepted)])
        yield counter(
            "inputs",
            "Accepted inputs that are finished, by outcome.",
            [((outcome,), count) for outcome, count in ended.items()],
            ("outcome",),
        )
        yield counter(
            "inputs_refused",
            "Inputs refused on arrival, by reason.",
            [((reason,), count) for reason, count in now.refused.items()],
            ("reason",),
        )
        yield counter(
            "inputs_retried",
            "Retries of inputs whose worker died or was replaced while it ran them.",
            [((), now.retried)],
        )
        yield counter(
            "inputs_poison",
            "Inputs that failed because every worker that ran them died.",
            [((), now.poison)],
        )
        yield counter(
            "inputs_shared",
            "Inputs that got the result of an equal input that was waiting or running.",
            [((), now.shared)],
        )
        yield counter(
            "inputs_cached",
            "Inputs answered from the cache, without a model run.",
            [((), now.cached)],
        )
        yield gauge("queue_depth", "Inputs waiting in the queue.", [((), now.waiting)])
        yield gauge(
            "queue_depth_bulk",
            "Inputs waiting with bulk priority (4 to 7), equal ones counted once.",
            [((), now.waiting_bulk)],
        )
        yield gauge(
            "queue_tokens", "Tokens of the inputs waiting in the queue.", [((), now.waiting_tokens)]
        )
        yield gauge("inputs_running", "Inputs in running batches.", [((), now.running)])
        yield gauge(
            "queue_oldest_age_seconds",
            "How long the oldest input in the queue has waited.",
            [((), now.oldest_age)],
        )
        yield gauge(
            "predicted_batch_seconds",
            "Predicted time of the batch that would be formed from the queue now.",
            [((), now.predicted_batch)],
        )
        yield gauge(
            "handoff_seconds",
            "Recent time of a batch outside the model: sending, receiving, waking up.",
            [((), now.handoff)],
        )
        yield gauge("ready", "1 while new requests are accepted.", [((), int(now.ready))])

    def _batches(self) -> Iterator[Metric]:
        now = self._snapshot
        yield counter(
            "batches",
            "Batches run, by the reason that closed them.",
            [((reason,), count) for reason, count in now.batches.items()],
            ("reason",),
        )
        for name, help_text, histogram in (
            ("queue_wait_seconds", "Time that each input waited in the queue.", now.queue_wait),
            ("inference_seconds", "Time that each batch ran in the model.", now.inference),
            ("batch_size", "Inputs in a batch.", now.batch_size),
            ("batch_tokens", "Tokens in a batch, padding included.", now.batch_tokens),
            (
                "batch_padding_ratio",
                "Share of the tokens of a batch that is padding.",
                now.batch_padding,
            ),
            (
                "batch_oldest_wait_seconds",
                "How long the oldest input of each batch had waited.",
                now.batch_oldest_wait,
            ),
            (
                "batch_predicted_seconds",
                "Predicted time of each batch in the model.",
                now.batch_predicted,
            ),
            (
                "batch_prediction_error_ratio",
                "Error of the predicted time of each batch, as a share of its real time.",
                now.batch_prediction_error,
            ),
        ):
            family = HistogramMetricFamily(f"batcher_{name}", help_text)
            add(family, histogram, ())
            yield family

    def _replicas(self) -> Iterator[Metric]:
        replicas = self._snapshot.replicas
        yield gauge(
            "worker_up",
            "1 while this replica's worker can take a batch.",
            [((str(replica.index),), int(replica.up)) for replica in replicas],
            ("replica",),
        )
        yield gauge(
            "worker_ready",
            "1 while this replica's worker is up and a batch or test input has succeeded recently.",
            [((str(replica.index),), int(replica.ready)) for replica in replicas],
            ("replica",),
        )
        yield counter(
            "device_busy_seconds",
            "Time that this replica spent running batches; its rate is the utilisation.",
            [((str(replica.index),), replica.busy_seconds) for replica in replicas],
            ("replica",),
        )
        yield counter(
            "worker_restarts",
            "Workers that died or were replaced, by cause.",
            [
                ((str(replica.index), reason), count)
                for replica in replicas
                for reason, count in replica.restarts.items()
            ],
            ("replica", "reason"),
        )
