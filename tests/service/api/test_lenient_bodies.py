"""Bodies as clients of other services send them, with what this one does not know."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from batcher import NeverInTime
from service.app import create_app
from service.processes.build import _serve_model
from service.settings import Settings
from tests.service.conftest import FakeClient, is_openai_error, is_tei_error, make_front

V1 = "/v1/embeddings"

UNKNOWN = [
    (V1, {"input": "a", "model": "m", "drop_params": True}, "drop_params"),
    (V1, {"input": "a", "input_type": "query", "truncate": "END", "x": 1}, "x"),
    ("/embed", {"inputs": "a", "add_special_tokens": True}, "add_special_tokens"),
    ("/embed", {"inputs": ["a"], "parameters": {}}, "parameters"),
    ("/rerank", {"query": "a", "texts": ["b"], "model": "m"}, "model"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"], "x": 1}}, "inputs.x"),
    ("/", {"inputs": "a", "options": {"wait_for_model": True}}, "options"),
    ("/", {"inputs": "a", "parameters": {"x": 1}}, "x"),
]


@pytest.mark.parametrize(("path", "body", "unknown"), UNKNOWN)
def test_unknown_fields_are_ignored_or_refused_as_the_setting_says(
    http: TestClient, engine: FakeClient, path: str, body: dict[str, Any], unknown: str
) -> None:
    assert http.post(path, json=body).status_code == 200
    with TestClient(create_app(make_front(engine, unknown_fields="refuse"))) as strict:
        answer = strict.post(path, json=body)
    assert answer.status_code == (400 if path == V1 else 422)
    assert f"{unknown}: there is no such field" in answer.text
    assert (is_openai_error if path == V1 else is_tei_error)(answer.json())


def test_a_classifier_ignores_them_too(engine: FakeClient) -> None:
    front = make_front(engine)
    front.served = _serve_model(Settings(model="m", runner="simulated", task="classify"))
    engine.answer = lambda payload: [1.0, 2.0, 3.0]
    with TestClient(create_app(front)) as http:
        for more in ({"normalize": True}, {"raw_scores": None}):
            assert http.post("/predict", json={"inputs": "a", **more}).status_code == 200


def test_the_description_says_whether_more_fields_are_taken(engine: FakeClient) -> None:
    for setting, wanted in (("ignore", None), ("refuse", False)):
        with TestClient(create_app(make_front(engine, unknown_fields=setting))) as http:
            schemas = http.get("/openapi.json").json()["components"]["schemas"]
        for name in ("EmbedBody", "EmbeddingsBody", "Sentences"):
            assert schemas[name].get("additionalProperties") is wanted


_OPTIONAL = [
    (V1, {"input": "a"}, ("model encoding_format dimensions user truncate prompt_name priority")),
    ("/embed", {"inputs": "a"}, "truncate truncation_direction normalize prompt_name dimensions"),
    ("/rerank", {"query": "a", "texts": ["b"]}, "raw_scores return_text truncate priority"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, "parameters"),
    ("/", {"inputs": "a"}, "normalize dimensions truncate parameters encoding_format"),
]


@pytest.mark.parametrize(("path", "body", "names"), _OPTIONAL)
def test_null_is_as_good_as_absent(
    http: TestClient, path: str, body: dict[str, Any], names: str
) -> None:
    plain = http.post(path, json=body)
    assert plain.status_code == 200
    assert http.post(path, json={**body, **dict.fromkeys(names.split())}).json() == plain.json()


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (V1, {"input": None}, "input: must be a text"),
        ("/embed", {"inputs": None}, "inputs: must be a text"),
        ("/rerank", {"query": None, "texts": ["b"]}, "query: "),
        ("/rerank", {"query": "a", "texts": None}, "texts: must be a list of texts, not null"),
        ("/similarity", {"inputs": None}, "inputs: must be an object"),
        ("/", {"inputs": None}, "inputs: must be a text"),
    ],
)
def test_null_where_a_value_is_needed_is_named(
    http: TestClient, path: str, body: dict[str, Any], says: str
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == (400 if path == V1 else 422)
    assert says in answer.text
    assert (is_openai_error if path == V1 else is_tei_error)(answer.json())


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (V1, {"input": ["a", "b"]}, 400),
        ("/embed", {"inputs": ["a", "b"]}, 422),
        ("/rerank", {"query": "a", "texts": ["a", "b"]}, 422),
        ("/", {"inputs": ["a", "b"]}, 422),
        ("/api/embed", {"input": ["a", "b"]}, 400),
    ],
)
def test_a_call_that_is_never_in_time_is_told_so_for_good(
    http: TestClient, engine: FakeClient, path: str, body: dict[str, Any], status: int
) -> None:
    engine.error = NeverInTime("send at most 7 at once")
    answer = http.post(path, json=body)
    assert answer.status_code == status
    assert "send at most 7 at once" in answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
