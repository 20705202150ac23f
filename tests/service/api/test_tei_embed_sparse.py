"""POST /embed_sparse as text-embeddings-inference answers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.catalog import text_model
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, is_openai_error, is_tei_error, make_front
from tests.service.tiny import make_sparse, read_spec

FOUND = (np.array([1, 3], np.int32), np.array([0.1, 2.5], np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sparse(tmp_path_factory.mktemp("sparse"), "bert")


@pytest.fixture
def http(engine: FakeClient, folder: Path) -> Iterator[TestClient]:
    spec = read_spec(folder)
    engine.answer = lambda payload: FOUND
    front = make_front(engine)
    front.served = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    with TestClient(create_app(front)) as client:
        yield client


def ask(http: TestClient, status: int = 200, path: str = "/embed_sparse", **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


WORDS = [{"index": 1, "value": 0.1}, {"index": 3, "value": 2.5}]


@pytest.mark.parametrize("inputs", ["one", ["one"], [4, 5]])
def test_one_input_is_answered_with_one_row(http: TestClient, inputs: Any) -> None:
    assert ask(http, inputs=inputs) == [WORDS]


def test_several_are_answered_in_their_order(http: TestClient, engine: FakeClient) -> None:
    engine.answer = lambda payload: (np.array([len(payload)], np.int32), np.ones(1, np.float32))
    rows = ask(http, inputs=["one", "", "one two"])
    assert [row[0]["index"] for row in rows] == [3, 2, 4]


def test_a_text_may_have_no_weight_at_all(http: TestClient, engine: FakeClient) -> None:
    engine.answer = lambda payload: (np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert ask(http, inputs=["one", "two"]) == [[], []]


def test_many_weights_are_written_whole(
    http: TestClient, engine: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tasks.sparse._AT_ONCE", 2)
    found = (np.arange(9, dtype=np.int32), np.arange(1, 10, dtype=np.float32))
    engine.answer = lambda payload: found
    rows = ask(http, inputs=["one", "two"])
    assert rows == [[{"index": n, "value": n + 1.0} for n in range(9)]] * 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": ""}, 200),
        ({"inputs": []}, 400),
        ({"inputs": [["one", "two"]]}, 422),
        ({"inputs": "one", "prompt_name": "nope"}, 422),
        ({"inputs": "one", "truncate": "no"}, 422),
        ({"inputs": "one " * 99, "truncate": False}, 422),
        ({"inputs": [1, 99]}, 422),
    ],
)
def test_what_is_wrong_is_said_in_the_envelope_of_the_route(
    http: TestClient, body: dict[str, Any], status: int
) -> None:
    answer = ask(http, status, **body)
    assert status == 200 or is_tei_error(answer)


def test_another_kind_of_answer_is_another_task(http: TestClient) -> None:
    refused = ask(http, 424, path="/embed", inputs="one")
    assert is_tei_error(refused)
    assert "is not an embedding model: use POST /embed_sparse" in refused["error"]
    assert ask(http, 424, path="/predict", inputs="one")["error_type"] == "Backend"
    refused = ask(http, 400, path="/v1/embeddings", model="tests/tiny", input="one")
    assert is_openai_error(refused)


@pytest.mark.parametrize(
    "value",
    [
        np.ones(3, np.float32),
        (np.array([1, 2], np.int32), np.ones(1, np.float32)),
        (np.array([2, 1], np.int32), np.ones(2, np.float32)),
        (np.array([9], np.int32), np.ones(1, np.float32)),
        (np.array([-1], np.int32), np.ones(1, np.float32)),
        (np.ones(1, np.float32), np.ones(1, np.float32)),
    ],
)
def test_a_runner_that_answers_something_else_has_failed(
    http: TestClient, engine: FakeClient, value: Any
) -> None:
    engine.answer = lambda payload: value
    assert ask(http, 500, inputs="one")["error_type"] == "Backend"


def test_an_embedder_answers_no_sparse_vectors(engine: FakeClient) -> None:
    with TestClient(create_app(make_front(engine))) as client:
        refused = ask(client, 424, inputs="one")
    assert (
        "is not an embedding model with SPLADE pooling: use POST /v1/embeddings" in refused["error"]
    )


def test_info_tells_what_it_is(http: TestClient) -> None:
    info = http.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "splade"}}
    assert info["dimension"] == 9


def test_texts_are_ranked_by_the_dot_product(http: TestClient, engine: FakeClient) -> None:
    def answer(payload: Any) -> Any:
        weights = {5: [1.0, 2.0], 3: [0.0, 1.0], 4: [3.0, 0.0]}[len(payload)]
        words = [place for place, weight in enumerate(weights) if weight]
        return np.array(words, np.int32), np.array([w for w in weights if w], np.float32)

    engine.answer = answer
    body = {"query": "one two three", "texts": ["one", "one two"]}
    told = ask(http, path="/rerank", **body, raw_scores=True)
    assert told == [{"index": 1, "score": 3.0}, {"index": 0, "score": 2.0}]
    assert [one["score"] for one in ask(http, path="/rerank", **body)] == pytest.approx(
        [3 / 4, 2 / 3]
    )
    assert ask(http, path="/", **body) == ask(http, path="/rerank", **body)


def test_the_one_path_of_the_hub_answers_as_its_own_route(http: TestClient) -> None:
    assert ask(http, path="/", inputs=["one", "two"], parameters={}) == [WORDS, WORDS]
