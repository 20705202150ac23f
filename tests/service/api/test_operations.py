from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from batcher.runner import RunnerInfo
from service.api import schemas as shapes
from service.app import create_app
from service.state import AppState
from tests.service.conftest import FakeClient, make_front

READY_ROUTES = ["/health", "/health/ready"]


@pytest.mark.parametrize("path", READY_ROUTES)
def test_ready_once_a_worker_is_up(http: TestClient, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "replicas_up": 1, "replicas": 1}


@pytest.mark.parametrize("path", READY_ROUTES)
def test_not_ready_says_why_and_when_to_come_back(path: str) -> None:
    engine = FakeClient(up=False)
    front = make_front(engine)
    with TestClient(create_app(front)) as http:

        def reason() -> str:
            answer = http.get(path)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["status"] == "not ready"
            assert answer.json()["request_id"] == answer.headers["x-request-id"]
            TypeAdapter(shapes.Health).validate_json(answer.content, strict=True)
            assert http.get("/health/live").status_code == 200
            return str(answer.json()["reason"])

        assert reason() == "worker 0 is loading the model"
        engine.collector.replica_up(0, RunnerInfo())
        engine.collector.replica_down(0, "signal 9")
        assert reason() == "worker 0 is starting again (signal 9)"
        engine.collector.replica_waits(0, 2.0, "no weights", is_broken=True)
        assert reason() == "worker 0 starts again in 2.0 s (no weights)"
        engine.up = True
        assert http.get(path).status_code == 200
        front.stopping = True
        assert reason() == "the service is shutting down"


def test_answers_given_while_stopping_close_their_connection(
    http: TestClient, front: AppState
) -> None:
    assert "connection" not in http.get("/health/live").headers
    front.stopping = True
    assert http.get("/health/live").headers["connection"] == "close"
    assert http.post("/embed", json={"inputs": "a"}).headers["connection"] == "close"


def test_stats_is_the_snapshot(http: TestClient) -> None:
    http.post("/embed", json={"inputs": "a"})
    stats = http.get("/stats").json()
    assert stats["ready"] is True
    assert stats["model"] == "tests/tiny"
    assert stats["replicas"][0]["facts"]["pid"] == 1
    assert stats["waiting"] == 0
    assert len(stats["batch_size"]["counts"]) == len(stats["batch_size"]["bounds"]) + 1
    assert stats["http"]["/embed"] == {"ok": 1}


def test_every_reference_in_the_api_description_leads_somewhere(http: TestClient) -> None:
    answer = http.get("/openapi.json")
    schemas = answer.json()["components"]["schemas"]
    names = set(re.findall(r'"#/components/schemas/(\w+)"', answer.text))
    assert {"EmbeddingsBody", "EmbedBody", "OpenAIError", "TEIError"} <= names <= set(schemas)


def test_the_api_description_knows_every_route(http: TestClient, front: AppState) -> None:
    others = {"/predict", "/v1/predict", "/tokenize", "/decode"}  # of other models
    others |= {"/embed_all", "/embed_sparse", "/infinity/classify", "/classify"}
    assert set(http.get("/openapi.json").json()["paths"]) == set(front.tally.routes) - others
    front.served = None
    assert set(http.get("/openapi.json").json()["paths"]) == set(front.tally.routes)


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_inference_routes_describe_every_status(http: TestClient, path: str) -> None:
    responses = http.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    wrong_task = {424} if path == "/embed" else set()  # with OpenAI's protocol it is a 400
    assert set(map(int, responses)) - wrong_task == {
        200, 400, 401, 404, 405, 408, 413, 414, 415, 417, 422, 429, 431, 500, 503, 504,
    }  # fmt: skip
    assert wrong_task <= set(map(int, responses))
    assert "retry-after" in responses["429"]["headers"]


@pytest.mark.parametrize(
    ("method", "path", "body", "shape"),
    [
        ("POST", "/v1/embeddings", {"model": "tiny", "input": "a"}, shapes.EmbeddingsAnswer),
        ("POST", "/v1/embeddings", {"model": "tiny"}, shapes.OpenAIError),
        ("POST", "/embed", {"inputs": ["a"]}, list[list[float]]),
        ("POST", "/embed", {}, shapes.TEIError),
        ("POST", "/rerank", {"query": "a", "texts": ["a"]}, list[shapes.Rank]),
        ("POST", "/rerank", {"query": "a", "texts": ["a"], "return_text": True}, list[shapes.Rank]),
        ("POST", "/rerank", {}, shapes.TEIError),
        ("GET", "/v1/models", None, shapes.ModelList),
        ("GET", "/v1/models/tiny", None, shapes.Model),
        ("GET", "/info", None, shapes.Info),
        ("GET", "/health", None, shapes.Health),
        ("GET", "/health/live", None, shapes.Health),
    ],
)
def test_answers_have_the_shapes_that_are_described(
    http: TestClient, method: str, path: str, body: Any, shape: Any
) -> None:
    answer = http.request(method, path, json=body)
    TypeAdapter(shape).validate_json(answer.content, strict=True)


def test_the_docs_page_needs_nothing_from_elsewhere(http: TestClient) -> None:
    answer = http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"""(src|href)\s*=|https?://|@import|url\(""", answer.text)
    assert 'fetch("openapi.json"' in answer.text


def test_the_docs_page_takes_the_key_in_a_password_field(http: TestClient) -> None:
    page = http.get("/docs").text
    assert re.search(r"<form id=.key.*?<input id=.bearer. type=.password.", page, re.DOTALL)
    # In the address the key would be kept in the browser's history.
    assert not re.search(r"location|[?#]key=", page)


def test_with_a_key_the_description_says_so() -> None:
    with TestClient(create_app(make_front(FakeClient(), api_key="k"))) as http:
        answer = http.get("/openapi.json", headers={"authorization": "Bearer k"}).json()
    assert answer["security"] == [{"key": []}]
    assert answer["paths"]["/health"]["get"]["security"] == []
    assert answer["paths"]["/docs"]["get"]["security"] == []
    assert "401" not in answer["paths"]["/docs"]["get"]["responses"]


def test_the_description_says_what_becomes_of_a_priority(http: TestClient) -> None:
    parameters = http.get("/openapi.json").json()["paths"]["/embed"]["post"]["parameters"]
    [priority] = [one for one in parameters if one["name"] == "Priority"]
    assert "u=4 to u=7 are bulk" in priority["description"]


@pytest.mark.parametrize("name", ["EmbeddingsBody", "EmbedBody"])
def test_the_description_has_the_priority_of_the_body_with_its_range(
    http: TestClient, name: str
) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    priority = schemas[name]["properties"]["priority"]
    assert priority["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 7}
    assert "wins over the Priority header" in priority["description"]


def test_the_api_description_names_the_model_and_its_dimensions(http: TestClient) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    body = schemas["EmbeddingsBody"]["properties"]
    assert body["dimensions"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 8}
