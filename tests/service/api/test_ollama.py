from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from service.app import create_app
from tests.service.conftest import FakeClient, make_front, vector_of


def ask(http: TestClient, path: str = "/api/embed", status: int = 200, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(("given", "texts"), [("a b", ["a b"]), (["a", "b c"], ["a", "b c"])])
def test_embed_answers_a_vector_for_each_text(
    http: TestClient, engine: FakeClient, given: Any, texts: list[str]
) -> None:
    options = {"num_ctx": 4, "use_mmap": True, "temperature": None}
    answer = ask(http, model="nomic-embed-text", input=given, keep_alive="5m", options=options)
    np.testing.assert_array_equal(np.float32(answer["embeddings"]), [*map(vector_of, texts)])
    assert answer["model"] == "nomic-embed-text"
    assert answer["prompt_eval_count"] == sum(engine.last.costs)
    assert answer["load_duration"] == 0


def test_dimensions_are_cut_and_brought_to_length_one(http: TestClient) -> None:
    (vector,) = ask(http, input="a", dimensions=3)["embeddings"]
    np.testing.assert_allclose(
        vector, vector_of("a")[:3] / np.linalg.norm(vector_of("a")[:3]), 1e-6
    )


def test_no_dimensions_are_all(http: TestClient) -> None:
    whole = ask(http, input="a")["embeddings"]
    for none in (0, None):
        assert ask(http, input="a", dimensions=none)["embeddings"] == whole


def test_dimensions_that_only_a_worker_knows_are_checked_without_an_input_too() -> None:
    front = make_front(FakeClient(facts={"dimension": 8}))
    front.served = dataclasses.replace(front.model(), dimension=None)
    with TestClient(create_app(front)) as http:
        assert ask(http, input="", dimensions=8)["embeddings"] == []
        ask(http, input="", dimensions=9, status=400)


@pytest.mark.parametrize(
    ("path", "field"), [("/api/embed", "input"), ("/api/embeddings", "prompt")]
)
def test_a_context_that_is_smaller_than_the_models_cuts_sooner(
    http: TestClient, engine: FakeClient, path: str, field: str
) -> None:
    ask(http, path, **{field: "1 2 3 4 5"}, options={"num_ctx": 3})
    assert engine.last.payloads == ["1 2 3"]


@pytest.mark.parametrize("given", [{}, {"input": ""}, {"input": []}, {"input": None}])
def test_without_an_input_nothing_is_run(
    http: TestClient, engine: FakeClient, given: dict[str, Any]
) -> None:
    assert ask(http, **given)["embeddings"] == []
    assert ask(http, "/api/embeddings", model="m")["embedding"] == []
    assert not engine.submitted


def test_the_older_route_takes_one_text(http: TestClient) -> None:
    answer = ask(http, "/api/embeddings", model="m", prompt="a b")
    np.testing.assert_array_equal(np.float32(answer["embedding"]), vector_of("a b"))
    assert list(answer) == ["embedding"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/embed", {"input": 7}, "input"),
        ("/api/embed", {"input": [1, 2]}, "input"),  # token ids are no texts to Ollama
        ("/api/embed", {"input": ["a", None]}, "input"),
        ("/api/embed", {"input": "a", "dimensions": -1}, "dimensions"),
        (
            "/api/embed",
            {"input": "a b", "truncate": False, "options": {"num_ctx": 1}},
            "limit is 1",
        ),
        ("/api/embed", {"input": "a", "options": {"num_ctx": 0}}, "options.num_ctx"),
        ("/api/embed", {"input": "a", "options": "num_ctx"}, "options"),
        ("/api/embed", {"input": "a", "dimensions": 99}, "dimensions"),
        ("/api/embed", {"input": "a " * 99, "truncate": False}, "input"),
        ("/api/embed", {"input": "a", "truncate": "yes"}, "truncate"),
        ("/api/embeddings", {"prompt": ["a"]}, "prompt"),
        ("/api/show", {"model": 1}, "model"),
    ],
)
def test_what_is_wrong_with_a_body_is_a_400_that_names_the_field(
    http: TestClient, path: str, body: dict[str, Any], said: str
) -> None:
    answer = ask(http, path, 400, **body)
    assert said in answer["error"]
    assert set(answer) == {"error", "code", "request_id"}


def test_overload_and_unknown_paths_are_told_in_its_envelope(
    http: TestClient, engine: FakeClient
) -> None:
    engine.error = Overloaded("the queue is full", 1.0)
    assert "queue is full" in ask(http, status=429, input="a")["error"]
    missing = http.post("/api/generate", json={"model": "m", "prompt": "a"})
    assert missing.status_code == 404
    assert "error" in missing.json()


def test_the_model_is_listed_and_described(http: TestClient) -> None:
    (model,) = http.get("/api/tags").json()["models"]
    assert model["name"] == model["model"] == "tests/tiny"
    assert model["modified_at"] == "2023-11-14T22:13:20+00:00"
    shown = ask(http, "/api/show", model="tests/tiny")
    assert shown["model_info"]["encoder.embedding_length"] == 8
    assert shown["capabilities"] == ["embedding"]
    assert http.get("/api/version").json()["version"]


def test_a_strict_service_knows_its_model_alone(engine: FakeClient) -> None:
    front = make_front(engine)
    assert front.served is not None
    front.served = dataclasses.replace(front.served, takes_any_name=False)
    with TestClient(create_app(front)) as http:
        for path in ("/api/embed", "/api/embeddings", "/api/show"):
            assert "other" in ask(http, path, 404, model="other", input="a")["error"]
