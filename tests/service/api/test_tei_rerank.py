"""POST /rerank and POST /similarity as text-embeddings-inference answers them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.catalog import own_model, text_model
from service.tasks.plain_text import TextPassthrough
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, is_tei_error, make_front
from tests.service.tiny import make_classifier, read_spec

TEXTS = ["one", "two three", "four"]
LOGITS = {1: -1.0, 2: 2.0}  # by the words of a text
VECTORS = {"q": (1, 0), "one": (0, 2), "two three": (3, 0), "four": (-1, 1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("scorer"), "bert", 1, id2label={0: "relevance"})


@pytest.fixture
def http(engine: FakeClient, folder: Path) -> Iterator[TestClient]:
    """A cross-encoder, to which a pair of q and n words has n + 4 tokens."""
    spec = read_spec(folder)
    engine.answer = lambda payload: np.array([LOGITS[payload["input_ids"].size - 4]], np.float32)
    front = make_front(engine)
    front.served = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    with TestClient(create_app(front)) as client:
        yield client


@pytest.fixture
def embedder(engine: FakeClient) -> Iterator[TestClient]:
    engine.answer = lambda text: np.array(VECTORS[text], np.float32)
    with TestClient(create_app(make_front(engine))) as client:
        yield client


def ask(http: TestClient, status: int = 200, path: str = "/rerank", **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert is_tei_error(answer.json())
    return answer.json()


def test_the_most_relevant_is_first_and_of_equal_ones_the_later(http: TestClient) -> None:
    got = ask(http, query="q", texts=TEXTS)
    assert [each["index"] for each in got] == [1, 2, 0]
    assert [set(each) for each in got] == [{"index", "score"}] * 3
    scores = [each["score"] for each in got]
    np.testing.assert_allclose(scores, [0.88079708, 0.26894142, 0.26894142], rtol=1e-6)


def test_raw_scores_are_the_logits_and_texts_come_back_where_asked_for(http: TestClient) -> None:
    got = ask(http, query="q", texts=TEXTS, raw_scores=True, return_text=True)
    assert got == [
        {"index": 1, "score": 2.0, "text": "two three"},
        {"index": 2, "score": -1.0, "text": "four"},
        {"index": 0, "score": -1.0, "text": "one"},
    ]


def test_an_embedder_ranks_by_cosine(embedder: TestClient, engine: FakeClient) -> None:
    got = ask(embedder, query="q", texts=TEXTS)
    assert [(each["index"], each["score"]) for each in got] == [(1, 1.0), (2, 0.0), (0, 0.0)]
    assert len(engine.last.payloads) == 4
    got = ask(embedder, query="q", texts=TEXTS, raw_scores=True)
    assert [each["index"] for each in got] == [1, 0, 2]
    assert got[2]["score"] == pytest.approx(-(0.5**0.5))


def test_similarity_is_the_cosine_in_the_order_of_the_sentences(embedder: TestClient) -> None:
    inputs = {"source_sentence": "q", "sentences": TEXTS}
    for more in ({}, {"parameters": None}, {"parameters": {"truncate": True}}):
        got = ask(embedder, path="/similarity", inputs=inputs, **more)
        assert got == [0.0, 1.0, pytest.approx(-(0.5**0.5))]


def test_options_of_its_clients_are_taken(http: TestClient, engine: FakeClient) -> None:
    options = {"truncate": None, "truncation_direction": "right", "raw_scores": None}
    ask(http, query="q", texts=["one"], return_text=None, unknown=5, priority=5, **options)
    assert engine.last.priority == 5
    engine.answer = lambda payload: np.zeros(1, np.float32)
    ask(http, query="q", texts=["one " * 20], truncate=True)
    assert engine.last.costs == [16]


LONG = {"query": "q", "texts": ["one", "one " * 20]}
SIMILAR: dict[str, Any] = {"source_sentence": "q", "sentences": ["one"]}


@pytest.mark.parametrize(
    ("body", "status", "says", "kind"),
    [
        ({"query": "q"}, 422, "texts: this field is required", "Validation"),
        ({"texts": ["a"]}, 422, "query: this field is required", "Validation"),
        ({"query": 5, "texts": ["a"]}, 422, "query: ", "Validation"),
        ({"query": "q", "texts": "a"}, 422, "texts: must be a list of texts", "Validation"),
        ({"query": "q", "texts": ["a", 5]}, 422, "texts[1]: must be a text, not the", "Validation"),
        ({"query": "q", "texts": []}, 400, "`texts` cannot be empty", "Empty"),
        ({"query": "q", "texts": ["a"] * 2049}, 422, "batch size 2049 > maximum", "Validation"),
        ({"query": "q", "texts": ["a"] * 10_000}, 422, "batch size 10000 > maximum", "Validation"),
        (LONG | {"truncate": False}, 422, "`texts[1]` must have less", "Validation"),
        (LONG | {"raw_scores": "yes"}, 422, "raw_scores: ", "Validation"),
    ],
)
def test_bad_input_is_named(
    http: TestClient,
    engine: FakeClient,
    body: dict[str, Any],
    status: int,
    says: str,
    kind: str,
) -> None:
    answer = ask(http, status, **body)
    assert says in answer["error"]
    assert answer["error_type"] == kind
    assert engine.submitted == []


def test_a_document_of_10_megabytes_is_cut_or_refused(http: TestClient, engine: FakeClient) -> None:
    body = {"query": "q", "texts": ["one " * 2_500_000, "one"]}
    engine.answer = lambda payload: np.array([payload["input_ids"].size], np.float32)
    got = ask(http, raw_scores=True, **body)
    assert [(each["index"], each["score"]) for each in got] == [(0, 16.0), (1, 5.0)]
    assert "`texts[0]` must have less than" in ask(http, 422, truncate=False, **body)["error"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "inputs: this field is required"),
        ({"inputs": "a"}, 422, "inputs: "),
        ({"inputs": {"sentences": ["a"]}}, 422, "inputs.source_sentence: this field is required"),
        ({"inputs": SIMILAR | {"sentences": []}}, 400, "`inputs.sentences` cannot be empty"),
        ({"inputs": SIMILAR | {"sentences": [5]}}, 422, "inputs.sentences[0]: must be a text"),
        ({"inputs": SIMILAR | {"sentences": ["a"] * 2048}}, 422, "batch size 2049 > maximum"),
        ({"inputs": SIMILAR, "parameters": {"truncate": 5}}, 422, "parameters.truncate: "),
        (
            {"inputs": SIMILAR | {"source_sentence": "a " * 17}, "parameters": {"truncate": False}},
            422,
            "`inputs.source_sentence` must have less than 16 tokens. Given: 17",
        ),
    ],
)
def test_bad_input_of_similarity_is_named(
    embedder: TestClient, engine: FakeClient, body: dict[str, Any], status: int, says: str
) -> None:
    answer = ask(embedder, status, "/similarity", **body)
    assert says in answer["error"]
    assert engine.submitted == []


def test_as_many_sentences_as_are_allowed_less_the_one(
    embedder: TestClient, engine: FakeClient
) -> None:
    sentences = ["one"] * 255
    inputs = {"source_sentence": "q", "sentences": sentences}
    assert ask(embedder, path="/similarity", inputs=inputs) == [0.0] * 255
    assert len(engine.last.payloads) == 256


def test_a_cross_encoder_answers_predict_too(http: TestClient) -> None:
    got = ask(http, path="/predict", inputs=[["q", "one"], ["q", "two three"]])
    assert got == [
        [{"label": "relevance", "score": pytest.approx(0.26894142)}],
        [{"label": "relevance", "score": pytest.approx(0.88079708)}],
    ]


def test_a_cross_encoder_is_not_asked_for_vectors(http: TestClient, engine: FakeClient) -> None:
    for path, body in (("/embed", {"inputs": "one"}), ("/similarity", {"inputs": SIMILAR})):
        answer = ask(http, 424, path, **body)
        assert answer["error_type"] == "Backend"
        assert answer["error"] == (
            "this model is not an embedding model: use POST /rerank or POST /predict"
        )
    assert engine.submitted == []


def test_what_is_no_reranker_says_so(engine: FakeClient, tmp_path: Path) -> None:
    spec = read_spec(make_classifier(tmp_path, "bert", 3))
    classifier = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    own = own_model("my.module:function", "predict", TextPassthrough(), created=0)
    for served, instead in ((classifier, "POST /predict"), (own, "POST /v1/predict")):
        front = make_front(engine)
        front.served = served
        with TestClient(create_app(front)) as http:
            answer = ask(http, 424, query="q", texts=["a"])
        assert answer["error"] == f"this model is not a re-ranker model: use {instead}"
        assert answer["error_type"] == "Backend"


def test_info_says_what_a_cross_encoder_is(http: TestClient) -> None:
    assert http.get("/info").json()["model_type"] == {
        "reranker": {"id2label": {"0": "relevance"}, "label2id": {"relevance": 0}}
    }
