"""Reranking as the clients of Cohere, Jina and vLLM ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from service.app import create_app
from service.catalog import own_model, text_model
from service.tasks.plain_text import TextPassthrough
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, is_tei_error, make_front
from tests.service.tiny import make_classifier, read_spec

DOCUMENTS = ["one", "two three", "four"]
LOGITS = {1: -1.0, 2: 2.0}  # by the words of a document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("scorer"), "bert", 1, id2label={0: "relevance"})


@pytest.fixture
def http(engine: FakeClient, folder: Path) -> Iterator[TestClient]:
    """A cross-encoder, to which a pair of q and n words has n + 4 tokens."""
    spec = read_spec(folder)
    engine.answer = lambda payload: np.array([LOGITS[payload["input_ids"].size - 4]], np.float32)
    front = make_front(engine, max_client_batch_size=5)
    front.served = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    with TestClient(create_app(front)) as client:
        yield client


def ask(http: TestClient, path: str = "/v1/rerank", status: int = 200, **body: Any) -> Any:
    answer = http.post(path, json={"query": "q", "documents": DOCUMENTS, **body})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_scores_are_those_of_the_route_of_tei_and_of_equal_ones_the_earlier_is_first(
    http: TestClient, path: str
) -> None:
    answer = ask(http, path, model="rerank-v3.5")
    texts = http.post("/rerank", json={"query": "q", "texts": DOCUMENTS}).json()
    scores = {each["index"]: each["score"] for each in texts}
    results = answer["results"]
    assert [each["index"] for each in results] == [1, 0, 2]
    assert {each["index"]: each["relevance_score"] for each in results} == scores
    assert answer["object"] == "rerank"
    assert answer["model"] == "tests/tiny"
    assert answer["usage"] == {"prompt_tokens": 16, "total_tokens": 16}
    assert answer["meta"]["tokens"]["input_tokens"] == 16
    if path == "/v2/rerank":
        assert [set(each) for each in results] == [{"index", "relevance_score"}] * 3
    else:
        assert [each["document"]["text"] for each in results] == ["two three", "one", "four"]


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"top_n": 1}, [1]),
        ({"top_n": 0}, [1, 0, 2]),
        ({"top_n": None, "max_tokens_per_doc": None, "truncate_prompt_tokens": None}, [1, 0, 2]),
        ({"top_n": 99}, [1, 0, 2]),
        ({"documents": [{"text": "one", "id": 7}, "two three"]}, [1, 0]),
        ({"max_tokens_per_doc": 1}, [0, 1, 2]),
        ({"max_tokens_per_doc": 2}, [1, 0, 2]),
        ({"max_tokens_per_doc": 4096}, [1, 0, 2]),
        ({"truncate_prompt_tokens": 5}, [0, 1, 2]),
        ({"truncate_prompt_tokens": -1}, [1, 0, 2]),
        ({"user": "me", "max_chunks_per_doc": 10}, [1, 0, 2]),
        ({"instruction": "", "max_tokens_per_query": 0, "rank_fields": None}, [1, 0, 2]),
    ],
)
def test_what_the_clients_say(http: TestClient, body: dict[str, Any], places: list[int]) -> None:
    assert [each["index"] for each in ask(http, **body)["results"]] == places


def test_a_cut_document_is_answered_whole(http: TestClient) -> None:
    answer = ask(http, documents=["two three"], max_tokens_per_doc=1)
    assert answer["results"][0]["document"] == {"text": "two three"}


def test_a_query_keeps_its_length_where_documents_are_cut(
    http: TestClient, engine: FakeClient
) -> None:
    engine.answer = lambda payload: np.zeros(1, np.float32)
    ask(http, query="one two three", documents=["one two three"], max_tokens_per_doc=1)
    assert engine.last.costs == [3 + 3 + 1]


def test_raw_scores_and_documents_only_where_asked_for(http: TestClient) -> None:
    for raw in ({"raw_scores": True}, {"use_activation": False}):
        answer = ask(http, return_documents=False, **raw)
        assert answer["results"] == [
            {"index": 1, "relevance_score": 2.0},
            {"index": 0, "relevance_score": -1.0},
            {"index": 2, "relevance_score": -1.0},
        ]
    assert ask(http, "/v2/rerank", return_documents=True)["results"][0]["document"]


@pytest.mark.parametrize(("given", "taken"), [(0, 0), (6, 6), (999, 7)])
def test_the_priority_is_the_requests(
    http: TestClient, engine: FakeClient, given: int, taken: int
) -> None:
    ask(http, priority=given)
    assert engine.last.priority == taken


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"documents": []}, "documents"),
        ({"documents": "one"}, "documents"),
        ({"documents": None}, "documents"),
        ({"documents": ["one", None]}, "documents[1]"),
        ({"documents": ["one", {"image": "x"}]}, "documents[1]"),
        ({"documents": ["one"] * 6}, "documents"),
        ({"documents": ["one"] * 6, "max_tokens_per_doc": 1}, "documents"),
        ({"query": None}, "query"),
        ({"query": ["q"]}, "query"),
        ({"top_n": -1}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"max_tokens_per_doc": -1}, "max_tokens_per_doc"),
        ({"priority": -1}, "priority"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"rank_fields": []}, "rank_fields"),
        ({"instruction": False}, "instruction"),
        ({"relevant_spans": {"max": 3}}, "relevant_spans"),
        ({"instruction": "be kind"}, "instruction"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),  # no more than special ones
        ({"max_tokens_per_query": 7}, "max_tokens_per_query"),
    ],
)
def test_a_malformed_body_is_a_400_that_each_client_can_read(
    http: TestClient, engine: FakeClient, body: dict[str, Any], field: str
) -> None:
    # Without documents POST /rerank is the route of text-embeddings-inference.
    paths = ["/v2/rerank"] if body.get("documents", "") is None else ["/v2/rerank", "/rerank"]
    for path in paths:
        answer = ask(http, path, 400, **body)
        assert answer["error"]["param"] == field
        assert answer["message"] == answer["detail"] == answer["error"]["message"]
        assert answer["message"].startswith(field)
    assert not engine.submitted


def test_overload_and_a_missing_key_have_the_same_envelope(
    http: TestClient, engine: FakeClient
) -> None:
    engine.error = Overloaded("the queue is full", 1.0)
    for path in ("/v2/rerank", "/rerank"):
        assert "queue is full" in ask(http, path, 429)["message"]
    with TestClient(create_app(make_front(engine, api_key="secret"))) as closed:
        assert "key" in ask(closed, "/v2/rerank", 401)["message"]


def test_the_route_of_tei_takes_texts_or_documents(http: TestClient) -> None:
    for body in ({"texts": ["one"]}, {"documents": None}):
        answer = http.post("/rerank", json={"query": "q", "documents": ["one"], **body})
        assert answer.status_code == 422, answer.text
        assert is_tei_error(answer.json())


def test_whole_texts_are_not_cut(engine: FakeClient) -> None:
    front = make_front(engine)
    front.served = own_model("m:f", "embed", TextPassthrough(), created=0)
    with TestClient(create_app(front)) as own:
        assert ask(own, "/v2/rerank")["results"]
        assert "whole texts" in ask(own, "/v2/rerank", 400, max_tokens_per_doc=1)["message"]


@pytest.mark.parametrize("words", [1, 3, 200])
def test_the_beginning_of_a_text_has_its_first_tokens(folder: Path, words: int) -> None:
    tokenizer = TextTokenizer.load(read_spec(folder))
    text = "one  two, three " * words
    for tokens in range(1, 9):
        part = tokenizer.beginning(text, tokens)
        wanted = tokenizer.library.encode(text, add_special_tokens=False).ids[:tokens]
        assert text.startswith(part)
        assert tokenizer.library.encode(part, add_special_tokens=False).ids == wanted
