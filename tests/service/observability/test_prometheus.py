from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from batcher import Engine, Snapshot
from service.app import create_app
from service.models.create import create_runner
from service.observability import prometheus as metrics
from service.state import AppState
from tests.service.configs import runner_config
from tests.service.conftest import FakeClient, make_front

NAMES = {
    "batcher_requests",
    "batcher_request_duration_seconds",
    "batcher_queue_wait_seconds",
    "batcher_inference_seconds",
    "batcher_batch_size",
    "batcher_batch_tokens",
    "batcher_batch_padding_ratio",
    "batcher_batch_oldest_wait_seconds",
    "batcher_batch_predicted_seconds",
    "batcher_batch_prediction_error_ratio",
    "batcher_batches",
    "batcher_inputs_shared",
    "batcher_inputs_cached",
    "batcher_handoff_seconds",
    "batcher_queue_depth_bulk",
    "batcher_queue_depth",
    "batcher_queue_oldest_age_seconds",
    "batcher_worker_up",
    "batcher_worker_restarts",
    "batcher_device_busy_seconds",
    "batcher_predicted_batch_seconds",
    "batcher_build_info",
}


def samples(page: str) -> dict[str, float]:
    """`name{label="value"}` → value, labels in alphabetical order."""
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_every_promised_name_is_there_under_the_rules_of_promtool(http: TestClient) -> None:
    http.post("/embed", json={"inputs": "a"})
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert set(families) >= NAMES
    for family in families.values():
        assert re.fullmatch(r"batcher_[a-z_]+", family.name)
        assert family.documentation
        assert not re.search(r"_(ms|us|millis|mb|kb)\b", family.name)
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            assert all(re.fullmatch(r"[a-z_]+", label) for label in sample.labels)
        if family.type == "gauge":
            assert not re.search(r"_(total|count|sum|bucket)$", family.name)


def test_requests_are_counted_by_route_and_outcome(http: TestClient, engine: FakeClient) -> None:
    http.post("/embed", json={"inputs": "a"})
    http.post("/embed", json={"inputs": "a"})
    http.post("/embed", json={})
    for path in ("/secret/1", "/secret/2"):
        http.get(path)
    engine.error = TimeoutError("a bug")
    http.post("/v1/embeddings", json={"input": "a", "model": "tiny"})
    found = samples(http.get("/metrics").text)
    assert found['batcher_requests_total{outcome="ok",route="/embed"}'] == 2
    assert found['batcher_requests_total{outcome="invalid",route="/embed"}'] == 1
    assert found['batcher_requests_total{outcome="invalid",route="other"}'] == 2
    assert found['batcher_requests_total{outcome="failed",route="/v1/embeddings"}'] == 1
    assert found['batcher_request_duration_seconds_count{outcome="ok",route="/embed"}'] == 2
    assert not any("secret" in name for name in found)


def test_requests_for_any_model_are_counted_under_one_template(http: TestClient) -> None:
    for model in ("tiny", "tests/tiny", "secret-1", "secret-2"):
        http.get(f"/v1/models/{model}")
    page = http.get("/metrics").text
    found = samples(page)
    assert found['batcher_requests_total{outcome="ok",route="/v1/models/{model}"}'] == 2
    assert found['batcher_requests_total{outcome="invalid",route="/v1/models/{model}"}'] == 2
    assert "secret" not in page
    assert 'route="other"' not in page


@pytest.mark.parametrize("route", ["/embed", "/v1/embeddings"])
def test_a_real_engine_adds_up(route: str) -> None:
    """accepted = ok + failed + expired + cancelled + waiting + running, and the sums agree."""

    def factory() -> Any:
        config = runner_config("simulated", sim_fixed_ms=0, sim_per_item_ms=0)
        return create_runner("simulated", config)

    engine = Engine(factory, isolation="thread")
    front = make_front(engine, engine._clock)
    field = "input" if route.startswith("/v1") else "inputs"
    with TestClient(create_app(front)) as http:
        assert http.portal is not None
        http.portal.call(engine.start)
        try:
            for text in (
                "a",
                ["b b b", "c"],
                "fault:raise",
                [f"d {number}" for number in range(64)],
            ):
                http.post(
                    route, json={field: text, **({"model": "tiny"} if field == "input" else {})}
                )
            found = samples(http.get("/metrics").text)
        finally:
            http.portal.call(engine.close)
    assert found["batcher_inputs_accepted_total"] == 68
    assert found['batcher_inputs_total{outcome="ok"}'] == 67
    assert found['batcher_inputs_total{outcome="failed"}'] == 1
    assert found["batcher_queue_depth"] == found["batcher_inputs_running"] == 0
    assert found["batcher_queue_wait_seconds_count"] == 68
    ran = found["batcher_batch_predicted_seconds_count"]
    assert ran == found["batcher_batch_oldest_wait_seconds_count"]
    assert ran == sum(value for name, value in found.items() if "batcher_batches_total" in name)
    timed = found["batcher_inference_seconds_count"]
    assert found["batcher_batch_prediction_error_ratio_count"] == timed
    assert found["batcher_inputs_shared_total"] == found["batcher_inputs_cached_total"] == 0
    assert found["batcher_queue_depth_bulk"] == 0
    assert found["batcher_handoff_seconds"] >= 0
    assert found["batcher_batch_size_sum"] in (67, 68)  # a batch that raised may have no timing
    assert found['batcher_worker_up{replica="0"}'] == 1
    assert found["batcher_ready"] == 1


def test_histograms_are_cumulative_and_end_with_all(http: TestClient, front: AppState) -> None:
    for seconds in (0.0001, 0.003, 0.003, 1e6):
        front.tally.observe("/embed", "ok", seconds)
    page = metrics.exposition(
        asyncio.run(_snapshot(front)), front.tally.snapshot(), {}, "1", "m"
    ).decode()
    buckets = [
        value
        for name, value in samples(page).items()
        if name.startswith("batcher_request_duration_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (1, 3, 4)


async def _snapshot(front: AppState) -> Snapshot:
    return await front.client.snapshot()
