"""What text-embeddings-inference answers beside its tasks: probes, its timing headers, and the
routes that SageMaker and Vertex AI call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from batcher.runner import RunnerInfo
from service.app import create_app
from tests.fakes import FakeClock
from tests.service.conftest import FakeClient, is_tei_error, make_front

HEADERS = {
    "x-compute-type": "cpu",
    "x-compute-time": "0",
    "x-compute-tokens": "1",
    "x-total-time": "0",
    "x-tokenization-time": "0",
    "x-queue-time": "2",
    "x-inference-time": "5",
}


@pytest.fixture
def keyed(engine: FakeClient) -> Iterator[TestClient]:
    with TestClient(create_app(make_front(engine, api_key="secret"))) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/ping"])
def test_a_probe_gets_an_empty_body_and_needs_no_key(keyed: TestClient, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = keyed.request(method, path)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/invocations", "/vertex"])
def test_the_task_on_a_probes_path_needs_the_key(keyed: TestClient, path: str) -> None:
    body = {"inputs": "a", "instances": []}
    assert keyed.post(path, json=body).status_code == 401
    headers = {"authorization": "Bearer secret"}
    assert keyed.post(path, json=body, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/ping", "/health"])
def test_not_ready_is_unhealthy(path: str) -> None:
    front = make_front(FakeClient())
    front.served = None
    with TestClient(create_app(front)) as http:
        answer = http.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    told = answer.json()
    assert (told["error"], told["error_type"]) == ("unhealthy", "Unhealthy")
    assert is_tei_error(told) or told["reason"] == "searching for the model"


@pytest.mark.parametrize(
    ("path", "body", "characters", "tokens"),
    [
        ("/embed", {"inputs": "words"}, 5, 1),
        ("/embed", {"inputs": ["words", [1, 2, 3]], "normalize": False}, 8, 4),
        ("/", {"inputs": "words"}, 5, 1),
        ("/similarity", {"inputs": {"source_sentence": "é", "sentences": ["a b"]}}, 4, 3),
        ("/rerank", {"query": "four", "texts": ["a", "bc"]}, 11, 3),
    ],
)
def test_an_answer_tells_its_times_in_whole_milliseconds(
    http: TestClient, path: str, body: Any, characters: int, tokens: int
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 200
    told = {name: answer.headers[name] for name in HEADERS}
    assert told == {**HEADERS, "x-compute-tokens": str(tokens)}
    assert answer.headers["x-compute-characters"] == str(characters)


def test_the_times_of_several_inputs_are_their_means(engine: FakeClient) -> None:
    clock = FakeClock(1000.0)

    def answer(payload: object) -> Any:
        clock.advance(0.5)
        return [1.0]

    engine.answer = answer
    with TestClient(create_app(make_front(engine, clock))) as http:
        headers = http.post("/embed", json={"inputs": ["a", "b"]}).headers
    assert (headers["x-total-time"], headers["x-compute-time"]) == ("1000", "1000")
    assert (headers["x-queue-time"], headers["x-inference-time"]) == ("2", "5")


def test_the_kind_of_device_is_said(engine: FakeClient, http: TestClient) -> None:
    engine.up = False
    engine.collector.replica_up(0, RunnerInfo(device="cuda:1"))
    for _ in range(2):
        headers = http.post("/embed", json={"inputs": "a"}).headers
        assert headers["x-compute-type"] == "gpu+optimized"


def test_sagemaker_asks_as_at_the_root(http: TestClient) -> None:
    for body in ({"inputs": "a"}, {"query": "a", "texts": ["b", "a"]}, {}):
        at_root, answer = (http.post(path, json=body) for path in ("/", "/invocations"))
        assert answer.status_code == at_root.status_code
        assert answer.json() == at_root.json() or answer.json()["error"] == at_root.json()["error"]


def test_vertex_gets_an_answer_for_each_instance(http: TestClient, engine: FakeClient) -> None:
    bodies: list[dict[str, Any]] = [
        {"inputs": "a"},
        {"inputs": ["b", "c"], "dimensions": 2},
        {"query": "a", "texts": ["b", "a"]},
    ]
    told = http.post("/vertex", json={"instances": bodies, "parameters": {}})
    assert told.json() == {"predictions": [http.post("/", json=body).json() for body in bodies]}
    assert http.post("/vertex", json={"instances": []}).json() == {"predictions": []}
    ids = {"inputs": [1] * 1500}  # one input each
    assert len(http.post("/vertex", json={"instances": [ids] * 2}).json()["predictions"]) == 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "instances: this field is required"),
        ({"instances": "a"}, "instances: must be a list of objects"),
        ({"instances": [{"inputs": "a"}, "b"]}, "instances[1]: must be an object"),
        ({"instances": [{"inputs": "a"}, {"inputs": 5}]}, "instances[1].inputs: must be"),
        ({"instances": [{"inputs": "a"}, {"inputs": [1, "b"]}]}, "instances[1].inputs: token 1"),
        ({"instances": [{}] * 2049}, "at most 2048"),
        ({"instances": [{"inputs": ["a"] * 1025}] * 2}, "at most 2048"),
        ({"instances": [{"query": "a", "texts": ["b"] * 2000}] * 2}, "at most 2048"),
    ],
)
def test_an_instance_at_fault_is_named(http: TestClient, body: Any, says: str) -> None:
    answer = http.post("/vertex", json=body)
    assert answer.status_code in (400, 422)
    assert is_tei_error(answer.json())
    assert says in answer.json()["error"]


def test_an_overload_is_vertex_s_answer_whole(http: TestClient, engine: FakeClient) -> None:
    engine.error = Overloaded("full", retry_after=2.0)
    answer = http.post("/vertex", json={"instances": [{"inputs": "a"}] * 2})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
