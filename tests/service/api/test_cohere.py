"""POST /v2/embed and POST /v1/embed as Cohere's clients call them."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from service.app import create_app
from service.processes.build import _serve_model
from service.settings import Settings
from tests.service.conftest import FakeClient, make_front, vector_of

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+k"
    "cQAAAABJRU5ErkJggg=="
)


def ask(http: TestClient, path: str = "/v2/embed", status: int = 200, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_each_version_answers_the_vectors_of_embed(http: TestClient, engine: FakeClient) -> None:
    common = {"model": "embed-v4.0", "texts": ["a", "b c"], "input_type": "search_document"}
    wanted = http.post("/embed", json={"inputs": ["a", "b c"]}).json()
    for path, version in (("/v2/embed", "2"), ("/v1/embed", "1")):
        answer = ask(http, path, **common, embedding_types=["float"], truncate="END")
        assert answer["embeddings"] == {"float": wanted}
        assert answer["response_type"] == "embeddings_by_type"
        assert answer["texts"] == ["a", "b c"]
        assert answer["meta"]["api_version"] == {"version": version}
        assert answer["meta"]["billed_units"] == {"input_tokens": sum(engine.last.costs)}
    assert ask(http, **common)["embeddings"] == {"float": wanted}
    older = ask(http, "/v1/embed", **common)
    assert older["embeddings"] == wanted
    assert older["response_type"] == "embeddings_floats"


def test_the_types_are_of_the_same_numbers(http: TestClient, engine: FakeClient) -> None:
    vector = np.array([0.5, -0.5, 0, 0.25, -1, 2, 3, -4, 1], np.float32)
    engine.answer = lambda text: vector
    got = ask(http, texts=["a"], embedding_types=["float", "binary", "ubinary", "base64"])
    got = got["embeddings"]
    assert got["float"] == [vector.tolist()]
    assert got["ubinary"] == [[0b10010110, 0b10000000]]
    assert got["binary"] == [[0b10010110 - 128, 0]]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(got["base64"][0]), "<f4"), vector)


def test_a_large_answer_is_the_same(http: TestClient, engine: FakeClient) -> None:
    engine.answer = lambda text: np.full(1024, float(text), np.float32)
    texts = [*map(str, range(32))]
    got = ask(http, texts=texts, embedding_types=["float", "base64"])["embeddings"]
    assert [vector[0] for vector in got["float"]] == [*range(32)]
    assert len(got["base64"]) == 32


def test_an_input_may_be_an_object_with_one_text(http: TestClient) -> None:
    inputs = [{"content": [{"type": "text", "text": "a"}]}]
    assert ask(http, inputs=inputs)["embeddings"] == ask(http, texts=["a"])["embeddings"]


@pytest.mark.parametrize(
    ("input_type", "prompts", "wanted"),
    [
        ("search_query", {"query": "Q", "document": "D"}, "query"),
        ("search_document", {"query": "Q", "passage": "P"}, "passage"),
        ("search_query", {}, None),
        ("clustering", {"query": "Q"}, None),
        (None, {"query": "Q"}, None),
    ],
)
def test_the_type_of_input_chooses_a_prompt_that_the_model_has(
    engine: FakeClient, input_type: str | None, prompts: dict[str, str], wanted: str | None
) -> None:
    front = make_front(engine)
    assert front.served is not None
    front.served = dataclasses.replace(front.served, prompts=prompts)
    with TestClient(create_app(front)) as http:
        # The model's prompts are known by name alone here: the one asked for is in the refusal.
        status = 200 if wanted is None else 400
        answer = ask(http, status=status, texts=["a"], input_type=input_type)
    assert wanted is None or f"'{wanted}'" in answer["message"]


def test_texts_are_cut_at_the_end_that_is_named(http: TestClient, engine: FakeClient) -> None:
    long = " ".join(map(str, range(20)))
    for truncate, first in ((None, "0"), ("END", "0"), ("START", "4")):
        ask(http, texts=[long], truncate=truncate)
        assert engine.last.payloads[0].split()[0] == first
    assert "20 tokens" in ask(http, status=400, texts=[long], truncate="NONE")["message"]


def test_a_limit_of_the_callers_is_lower_than_the_models(
    http: TestClient, engine: FakeClient
) -> None:
    long = " ".join(map(str, range(20)))
    for truncate, kept in ((None, "0 1 2"), ("START", "17 18 19")):
        ask(http, texts=[long], truncate=truncate, max_tokens=3)
        assert engine.last.payloads == [kept]
    refused = ask(http, status=400, texts=[long], truncate="NONE", max_tokens=3)
    assert "the limit is 3" in refused["message"]
    ask(http, texts=[long], max_tokens=999)
    assert engine.last.costs == [16]


def test_vectors_are_shortened_and_the_priority_is_ours(
    http: TestClient, engine: FakeClient
) -> None:
    (vector,) = ask(http, texts=["a"], output_dimension=3, priority=999)["embeddings"]["float"]
    wanted = vector_of("a")[:3]
    np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), 1e-6)
    assert engine.last.priority == 7


def test_a_model_of_images_takes_them(engine: FakeClient) -> None:
    front = make_front(engine)
    front.served = _serve_model(
        Settings(model="tests/tiny", runner="simulated", task="image-embed")
    )
    engine.answer = lambda payload: np.ones(7, np.float32)
    picture = {"content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}
    words = {"content": [{"type": "text", "text": "https://example.org is a text"}]}
    with TestClient(create_app(front)) as http:
        assert ask(http, images=[PIXEL], input_type="image")["texts"] == []
        assert ask(http, inputs=[picture, words])["texts"] == ["https://example.org is a text"]
        assert "images[0]: must be a data" in ask(http, status=400, images=["a"])["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "texts: give one of texts, inputs, images, not none"),
        ({"texts": None}, "texts: give one of"),
        ({"texts": ["a"], "images": [PIXEL]}, "give one of texts, inputs, images, not texts and"),
        ({"texts": "a"}, "texts: must be a list of texts, not the text 'a'"),
        ({"texts": []}, "texts: is empty"),
        ({"texts": ["a", 5]}, "texts[1]: must be a text"),
        ({"texts": [[1, 2]]}, "texts[0]: must be a text"),
        ({"texts": ["a"] * 10_000}, "texts: 10000 inputs"),
        ({"texts": ["a"], "input_type": "poem"}, "input_type: "),
        ({"texts": ["a"], "embedding_types": ["int8"]}, "embedding_types: 'int8' is not served"),
        ({"texts": ["a"], "embedding_types": ["bits"]}, "embedding_types"),
        ({"texts": ["a"], "embedding_types": "float"}, "embedding_types"),
        ({"texts": ["a"], "truncate": "MIDDLE"}, "truncate: "),
        ({"texts": ["a"], "output_dimension": 9}, "output_dimension: "),
        ({"texts": ["a"], "output_dimension": 0}, "output_dimension: "),
        ({"texts": ["a"], "max_tokens": 0}, "max_tokens: "),
        ({"texts": ["a"], "priority": -1}, "priority: "),
        ({"images": [PIXEL]}, "images: this model takes texts, no images"),
        ({"inputs": [{"content": []}]}, "inputs[0].content: must be"),
        ({"inputs": [{"content": [{"type": "text", "text": "a"}] * 2}]}, "has several parts"),
        ({"inputs": ["a"]}, "inputs[0].content: must be"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/embed", "/v2/embed"])
def test_what_is_wrong_is_a_400_that_names_the_field(
    http: TestClient, engine: FakeClient, path: str, body: dict[str, Any], says: str
) -> None:
    answer = ask(http, path, 400, **body)
    assert says in answer["message"]
    assert set(answer) == {"id", "message", "code"}
    assert engine.submitted == []


def test_an_overload_is_one_that_its_client_retries(http: TestClient, engine: FakeClient) -> None:
    engine.error = Overloaded("the queue is full", 1.0)
    assert "queue is full" in ask(http, status=429, texts=["a"])["message"]
