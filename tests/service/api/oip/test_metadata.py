"""What Triton's and KServe's clients ask before they send tensors."""

from __future__ import annotations

import dataclasses
import gzip
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.oip.not_offered import ROUTES
from service.app import create_app
from service.catalog import own_model
from service.tasks.plain_text import TextPassthrough
from tests.service.api.oip.conftest import Model, texts
from tests.service.conftest import FakeClient, make_front

MODEL = "/v2/models/tests/tiny"
TENSORS = {
    "embed": (["text"], ["embedding"]),
    "ids": (["text", "input_ids", "attention_mask"], ["embedding"]),
    "sparse": (["text"], ["indices", "values"]),
    "classify": (["text", "text_pair"], ["scores", "label"]),
    "score": (["query", "documents"], ["scores"]),
}


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
def test_a_model_is_described_as_the_specification_has_it(http: TestClient, path: str) -> None:
    assert http.get(path).json() == {
        "name": "tests/tiny",
        "versions": ["1"],
        "platform": "batcher",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 8]}],
    }


@pytest.mark.parametrize("task", TENSORS)
def test_metadata_and_configuration_name_the_same_tensors(model: Model, task: str) -> None:
    with model(task) as http:
        told, config = http.get(MODEL).json(), http.get(f"{MODEL}/config").json()
    assert (
        [each["name"] for each in told["inputs"]],
        [each["name"] for each in told["outputs"]],
    ) == (TENSORS[task])
    # perf_analyzer: with a max_batch_size the first dimension is -1, and is not among the dims.
    assert config["max_batch_size"] == 2048
    assert "dynamic_batching" in config
    for side, configured in (("inputs", "input"), ("outputs", "output")):
        for one, other in zip(told[side], config[configured], strict=True):
            assert one["shape"][0] == -1
            assert one["shape"][1:]  # perf_analyzer sends nothing without
            assert (one["name"], one["shape"][1:]) == (other["name"], other["dims"])
            assert other["data_type"].removeprefix("TYPE_") in (one["datatype"], "STRING")


def test_the_service_says_which_extensions_it_has(http: TestClient) -> None:
    told = http.get("/v2").json()
    assert set(told) == {"name", "version", "extensions"}
    assert {"statistics", "binary_tensor_data", "classification"} <= set(told["extensions"])
    assert http.get("/v2/models").json() == {"models": ["tests/tiny"]}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method}-{route.path}")
def test_what_is_not_offered_is_a_501_that_says_why(http: TestClient, route: Any) -> None:
    path = route.path.replace("{model}", "a/b").replace("{asked}", "r/status")
    answer = http.request(route.method, path)
    assert answer.status_code == 501
    assert len(answer.json()["error"]) > 10


@pytest.mark.parametrize("verb", ["", "/ready", "/config", "/stats", "/infer"])
def test_an_unknown_version_or_name_is_a_404(engine: FakeClient, verb: str) -> None:
    front = make_front(engine, strict_model_name=True)
    assert front.served is not None
    front.served = dataclasses.replace(front.served, takes_any_name=False)
    body = {"inputs": [texts("a")]} if verb == "/infer" else None
    method = "POST" if verb == "/infer" else "GET"
    with TestClient(create_app(front)) as http:
        for name, status in [
            ("tests/tiny", 200),
            ("tiny/versions/1", 200),
            ("tests/tiny/versions/2", 404),
            ("tests/tiny/versions/", 404),
            ("other", 404),
            ("other/versions/1", 404),
        ]:
            answer = http.request(method, f"/v2/models/{name}{verb}", json=body)
            assert answer.status_code == status, (name, answer.text)
            assert status == 200 or set(answer.json()) == {"error", "code", "request_id"}


def test_infer_is_asked_by_post_and_of_a_model(http: TestClient) -> None:
    answer = http.get(f"{MODEL}/infer")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert http.put(f"{MODEL}/infer").status_code == 405
    assert http.get("/v2/models/").status_code == 404
    assert http.post("/v2/models//infer", json={"inputs": [texts("a")]}).status_code == 404


def test_probes_are_answered_in_status_and_body(engine: FakeClient) -> None:
    front = make_front(engine, api_key="k" * 20)
    with TestClient(create_app(front)) as http:
        assert http.get("/v2/health/live").json() == {"live": True}
        assert http.get("/v2/health/ready").json() == {"live": True, "ready": True}
        assert http.get(f"{MODEL}/ready").status_code == 401
        key = {"Authorization": f"Bearer {'k' * 20}"}
        ready = http.get(f"{MODEL}/ready", headers=key).json()
        assert ready == {"name": "tests/tiny", "ready": True}
        front.stopping = True
        for path in ("/v2/health/ready", f"{MODEL}/ready"):
            answer = http.get(path, headers=key)
            assert (answer.status_code, answer.json()["error"]) == (
                503,
                "the service is shutting down",
            )
        assert http.get("/v2/health/live").status_code == 200


def test_the_index_lists_states(engine: FakeClient) -> None:
    front = make_front(engine)
    with TestClient(create_app(front)) as http:
        ready = {"name": "tests/tiny", "version": "1", "state": "READY", "reason": ""}
        assert http.post("/v2/repository/index").json() == [ready]
        front.served = None
        [loading] = http.post("/v2/repository/index", json={}).json()
        assert (loading["state"], loading["name"]) == ("LOADING", "tests/tiny")
        assert http.post("/v2/repository/index", json={"ready": True}).json() == []
        packed, coded = gzip.compress(b'{"ready": true}'), {"Content-Encoding": "gzip"}
        assert http.post("/v2/repository/index", content=packed, headers=coded).json() == []
        for body in (b"[]", b"{", b'{"ready": 1}'):
            assert http.post("/v2/repository/index", content=body).status_code == 400


def test_statistics_count_as_triton_does(http: TestClient, engine: FakeClient) -> None:
    counters = engine.collector._ledger.counters
    counters.ok, counters.inference_of_inputs = 6, 0.5
    counters.inference.observe(0.25)
    for _ in range(6):
        counters.queue_wait.observe(0.125)
    [told] = http.get(f"{MODEL}/stats").json()["model_stats"]
    assert (told["name"], told["version"]) == ("tests/tiny", "1")
    assert (told["inference_count"], told["execution_count"]) == (6, 1)
    stats = told["inference_stats"]
    assert stats["queue"] == {"count": 6, "ns": 750_000_000}
    assert stats["compute_infer"] == {"count": 6, "ns": 500_000_000}
    assert stats["success"] == {"count": 6, "ns": 1_250_000_000}
    computing = {stats[f"compute_{name}"]["count"] for name in ("input", "infer", "output")}
    assert computing == {6}  # perf_analyzer ends where they differ
    # perf_analyzer reads all of these, whether or not there is a cache.
    assert set(stats) == {
        *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
        *("cache_hit", "cache_miss"),
    }
    assert http.get("/v2/models/stats").json()["model_stats"][0]["name"] == "tests/tiny"


def test_each_route_has_its_own_label_in_the_metrics(http: TestClient) -> None:
    for path in (MODEL, f"{MODEL}/config", f"{MODEL}/versions/1/config"):
        http.get(path)
    http.post(f"{MODEL}/infer", json={"inputs": [texts("a")]})
    page = http.get("/metrics").text
    for template in ("", "/config", "/versions/{version}/config", "/infer"):
        line = f'batcher_requests_total{{outcome="ok",route="/v2/models/{{model}}{template}"}} 1.0'
        assert line in page


def test_a_model_without_tensors_names_the_routes_to_use(engine: FakeClient) -> None:
    front = make_front(engine)
    front.served = own_model("m:f", "predict", TextPassthrough(), created=0)
    with TestClient(create_app(front)) as http:
        for answer in (
            http.get("/v2/models/x"),
            http.post("/v2/models/x/infer", json={"inputs": [texts("a")]}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (400, "wrong_task")
