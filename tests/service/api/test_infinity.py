"""Infinity's routes, asked with the bodies that infinity_client 0.0.78 sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from service.app import create_app
from service.catalog import simulated_model
from service.tasks.plain_text import SimulatedTokenizer
from tests.service.conftest import FakeClient, is_openai_error, make_front, vector_of

ANY: dict[str, Any] = {"model": "default/not-specified"}
TEXTS = ANY | {"user": None, "dimensions": 0, "modality": "text"}
LOGITS = np.array([1.0, 3.0, 2.0], np.float32)


@pytest.fixture
def sorts(engine: FakeClient) -> Iterator[TestClient]:
    """A classifier, whose labels are LABEL_0 and so on."""
    engine.answer = lambda payload: LOGITS
    front = make_front(engine)
    front.served = simulated_model("tests/tiny", "classify", SimulatedTokenizer(), created=7)
    with TestClient(create_app(front)) as client:
        yield client


def ask(http: TestClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/embeddings", "/infinity/embeddings"])
def test_embeddings_are_those_of_openais_route(http: TestClient, path: str) -> None:
    whole = ask(http, "/v1/embeddings", model="tests/tiny", input=["a", "b"])
    assert ask(http, path, input=["a", "b"], **TEXTS) == whole
    assert ask(http, path, input=["a", "b"], model="tests/tiny", user="me") == whole
    short = ask(http, path, input="a", **TEXTS | {"dimensions": 2})
    assert len(short["data"][0]["embedding"]) == 2
    assert isinstance(ask(http, path, input="a", encoding_format="base64")["data"], list)


def test_documents_are_sorted_with_their_texts_bare(http: TestClient) -> None:
    body = ANY | {"query": "b", "documents": ["a", "b"], "raw_scores": False}
    told = ask(http, "/infinity/rerank", **body, return_documents=True)
    assert [each["document"] for each in told["results"]] == ["b", "a"]
    assert (told["object"], told["model"]) == ("rerank", "tests/tiny")
    assert told["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert told["id"].startswith("infinity-")
    first = ask(http, "/infinity/rerank", **body, top_n=1)["results"]
    assert first == [{"relevance_score": pytest.approx(1), "index": 1}]
    equal = ask(http, "/infinity/rerank", query="b", documents=["a", "b", "a", "b"])["results"]
    assert [each["index"] for each in equal] == [1, 3, 0, 2]


def test_each_text_has_all_labels(sorts: TestClient) -> None:
    told = ask(sorts, "/infinity/classify", input=["a", "b"], raw_scores=True, **ANY)
    assert told["object"] == "classify"
    assert [len(each) for each in told["data"]] == [3, 3]
    assert [each["score"] for each in told["data"][0]] == [3, 2, 1]
    told = ask(sorts, "/infinity/classify", input=["a"], **ANY)
    assert sum(each["score"] for each in told["data"][0]) == pytest.approx(1)


@pytest.mark.parametrize("path", ["/models", "/infinity/models"])
def test_the_models_come_with_their_load(http: TestClient, path: str) -> None:
    told = http.get(path).json()
    assert told == {
        "object": "list",
        "data": [
            {
                "id": "tests/tiny",
                "object": "model",
                "owned_by": "infinity",
                "created": 1_700_000_000,
                "backend": "",
                "capabilities": ["embed", "rerank"],
                "stats": {
                    "queue_fraction": 0.0,
                    "queue_absolute": 0,
                    "results_pending": 0,
                    "batch_size": 64,
                },
            }
        ],
    }


def test_health_needs_no_key_and_says_when_not(engine: FakeClient) -> None:
    front = make_front(engine, api_key="secret")
    with TestClient(create_app(front)) as http:
        assert http.get("/infinity/health").json().keys() == {"unix"}
        assert http.get("/infinity/models").status_code == 401
        front.stopping = True
        assert http.get("/infinity/health").status_code == 503


MALFORMED: list[tuple[str, dict[str, Any], int, str]] = [
    ("/infinity/embeddings", {}, 422, "input: this field is required"),
    ("/infinity/embeddings", {"input": []}, 422, "input: is empty"),
    ("/infinity/embeddings", {"input": ["a", 5]}, 422, "input[1]: must be"),
    ("/infinity/embeddings", {"input": "a", "dimensions": -1}, 422, "dimensions: "),
    ("/infinity/embeddings", {"input": "a", "dimensions": 9}, 422, "dimensions: "),
    ("/infinity/embeddings", {"input": "a", "modality": "audio"}, 422, "modality: "),
    ("/infinity/embeddings", {"input": "a", "modality": "image"}, 422, "modality: "),
    ("/infinity/rerank", {"documents": ["a"]}, 422, "query: this field is required"),
    ("/infinity/rerank", {"query": "a", "documents": []}, 422, "documents: is empty"),
    ("/infinity/rerank", {"query": "a", "documents": "b"}, 422, "documents: must be a list"),
    ("/infinity/rerank", {"query": "a", "documents": [{}]}, 422, "documents[0]: must be a text"),
    ("/infinity/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, 422, "top_n: "),
    ("/infinity/rerank", {"query": "a", "documents": ["b"] * 9999}, 422, "documents: 10000 inputs"),
    ("/infinity/classify", {"input": ["a"]}, 400, "is not a classifier model"),
    ("/infinity/classify", {"input": None}, 400, "is not a classifier model"),
    ("/infinity/nothing", {}, 404, "there is no such route"),
]


@pytest.mark.parametrize(("path", "body", "status", "says"), MALFORMED)
def test_what_is_wrong_is_said_in_infinitys_form(
    http: TestClient, engine: FakeClient, path: str, body: Any, status: int, says: str
) -> None:
    told = ask(http, path, status, **body)
    error = told.pop("error")
    assert says in error["message"]
    assert error["code"] == status
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    if status == 422:
        [fault] = told.pop("detail")
        assert fault["msg"] == error["message"]
        assert fault["loc"][0] == "body"
    assert told == {}
    assert engine.submitted == []


def test_what_is_wrong_with_a_texts_list_is_said(sorts: TestClient) -> None:
    for value, says in ((None, "must be a list"), ([], "is empty"), ([1], "input[0]: must be")):
        assert says in ask(sorts, "/infinity/classify", 422, input=value)["error"]["message"]


def test_at_the_root_errors_are_openais(http: TestClient) -> None:
    assert is_openai_error(ask(http, "/embeddings", 400))
    assert is_openai_error(ask(http, "/embeddings", 400, input="a", encoding_format="x"))


def test_an_overload_is_a_429_with_its_wait(http: TestClient, engine: FakeClient) -> None:
    engine.error = Overloaded("full", retry_after=2.0)
    answer = http.post("/infinity/embeddings", json={"input": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.json()["error"]["code"] == 429


def test_the_vectors_are_the_models(http: TestClient) -> None:
    [one] = ask(http, "/infinity/embeddings", input="a", **TEXTS)["data"]
    np.testing.assert_allclose(one["embedding"], vector_of("a"), rtol=1e-6)
