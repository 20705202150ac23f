"""What text-embeddings-inference answers to what it does not take, word for word: statuses, kinds
and texts of its router/src/http/server.rs, core/src/tokenization.rs and core/src/infer.rs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from service.app import create_app
from tests.service.conftest import FakeClient, make_front
from tests.service.tiny import word_tokenizer

INVALID = "Input validation error: "
BATCH = "batch size 2049 > maximum allowed batch size 2048"
MANY = ["a"] * 2049


@pytest.fixture(scope="module")
def tei() -> Iterator[TestClient]:
    front = make_front(FakeClient())
    object.__setattr__(front.served, "tokenizer", word_tokenizer())
    with TestClient(create_app(front)) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "text"),
    [
        ("/embed", {"inputs": []}, 400, "Empty", "`inputs` cannot be empty"),
        ("/embed", {"inputs": MANY}, 422, "Validation", BATCH),
        (
            "/embed",
            {"inputs": "w " * 17, "truncate": False},
            422,
            "Validation",
            INVALID + "`inputs` must have less than 16 tokens. Given: 17",
        ),
        (
            "/embed",
            {"inputs": ["w", "w " * 17], "truncate": False},
            422,
            "Validation",
            INVALID + "`inputs[1]` must have less than 16 tokens. Given: 17",
        ),
        (
            "/embed",
            {"inputs": "a", "dimensions": 0},
            422,
            "Validation",
            INVALID + "`dimensions` should be positive",
        ),
        (
            "/embed",
            {"inputs": "a", "dimensions": 9},
            422,
            "Validation",
            INVALID + "`dimensions` should be smaller than the maximum embedding dimension.",
        ),
        (
            "/embed",
            {"inputs": "a", "prompt_name": "query"},
            422,
            "Validation",
            "prompt_name: there is no prompt 'query'; the model has no prompts",
        ),
        ("/rerank", {"query": "q", "texts": []}, 400, "Empty", "`texts` cannot be empty"),
        # The query of an embedder is an input, as the source sentence is.
        ("/rerank", {"query": "q", "texts": MANY[1:]}, 422, "Validation", BATCH),
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": []}},
            400,
            "Empty",
            "`inputs.sentences` cannot be empty",
        ),
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": MANY[1:]}},
            422,
            "Validation",
            BATCH,
        ),
        ("/tokenize", {"inputs": []}, 400, "Empty", "`inputs` cannot be empty"),
        ("/tokenize", {"inputs": MANY}, 422, "Validation", BATCH),
        ("/decode", {"ids": []}, 400, "Empty", "`ids` cannot be empty"),
        ("/decode", {"ids": [[1]] * 2049}, 422, "Validation", BATCH),
        (
            "/predict",
            {"inputs": "a"},
            424,
            "Backend",
            "this model is not a classifier model: use ",
        ),
        (
            "/embed_sparse",
            {"inputs": "a"},
            424,
            "Backend",
            "this model is not an embedding model with SPLADE pooling: use ",
        ),
        ("/embed", {"inputs": 5}, 422, "Validation", "inputs: must be a text, a list of token ids"),
        ("/embed", {}, 422, "Validation", "inputs: this field is required"),
    ],
)
def test_an_error_is_theirs_word_for_word(
    tei: TestClient, path: str, body: Any, status: int, kind: str, text: str
) -> None:
    answer = tei.post(path, json=body)
    told = answer.json()
    assert (answer.status_code, told["error_type"]) == (status, kind)
    assert told["error"] == text or (told["error"].startswith(text) and not text.startswith("`"))


@pytest.mark.parametrize(
    ("sent", "headers", "status"),
    [
        (b'{"inputs":', {}, 400),  # as axum answers what is no JSON
        (b'{"inputs": "a"}', {"content-type": "image/png"}, 415),
        (b'{"inputs": "' + b"a" * 200 + b'"}', {}, 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_their_form(
    sent: bytes, headers: dict[str, str], status: int
) -> None:
    front = make_front(FakeClient(), max_body_bytes=100)
    with TestClient(create_app(front)) as http:
        answer = http.post("/embed", content=sent, headers=headers)
    assert (answer.status_code, answer.json()["error_type"]) == (status, "Validation")


def test_an_overload_has_their_words(http: TestClient, engine: FakeClient) -> None:
    engine.error = Overloaded("the queue is full", retry_after=1.0)
    answer = http.post("/embed", json={"inputs": "a"})
    assert (answer.status_code, answer.json()["error_type"]) == (429, "Overloaded")
    assert answer.json()["error"] == "Model is overloaded: the queue is full"


def test_of_equal_scores_the_higher_index_is_first(http: TestClient) -> None:
    answer = http.post("/rerank", json={"query": "a", "texts": ["b", "b", "a", "b"]})
    assert [each["index"] for each in answer.json()] == [2, 3, 1, 0]


def test_a_text_over_the_limit_is_cut_unless_truncate_is_false(http: TestClient) -> None:
    body = {"inputs": "w " * 17}
    for truncate, status in ((None, 200), (True, 200), (False, 422)):
        answer = http.post("/embed", json=body | {"truncate": truncate})
        assert answer.status_code == status
    assert http.post("/embed", json=body).status_code == 200


def test_info_has_all_of_their_fields(http: TestClient) -> None:
    assert {
        "model_id",
        "model_sha",
        "model_dtype",
        "served_model_name",
        "model_type",
        "max_concurrent_requests",
        "max_input_length",
        "max_batch_tokens",
        "max_batch_requests",
        "max_client_batch_size",
        "auto_truncate",
        "tokenization_workers",
        "version",
        "sha",
        "docker_label",
    } <= http.get("/info").json().keys()
