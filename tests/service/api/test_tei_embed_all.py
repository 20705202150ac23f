"""POST /embed_all as text-embeddings-inference answers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher.plain_data import dedup_key, refusal
from service.app import create_app
from service.catalog import text_model
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, is_tei_error, make_front
from tests.service.tiny import make_classifier, make_tiny, read_spec


def states(payload: Any) -> Any:
    """As many rows as there are tokens; a vector for who wants one."""
    if not isinstance(payload, dict):
        return np.ones(33, np.float32)
    return np.arange(len(payload["input_ids"]) * 2, dtype=np.float32).reshape(-1, 2) / 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), "bert", "mean", normalize=True)


@pytest.fixture
def http(engine: FakeClient, folder: Path) -> Iterator[TestClient]:
    spec = read_spec(folder)
    engine.answer = states
    front = make_front(engine)
    front.served = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    with TestClient(create_app(front)) as client:
        yield client


def ask(http: TestClient, status: int = 200, **body: Any) -> Any:
    answer = http.post("/embed_all", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_each_token_has_a_vector_special_ones_included(http: TestClient) -> None:
    assert ask(http, inputs="one") == [[[0.0, 0.25], [0.5, 0.75], [1.0, 1.25]]]
    assert [len(rows) for rows in ask(http, inputs=["one", "", "one two", [4, 5, 6]])] == [
        3,
        2,
        4,
        5,
    ]


def test_a_large_answer_is_written_whole(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(http, inputs=["one two three", "four"])
    monkeypatch.setattr("service.tasks.all_tokens.LARGE", 4)
    assert ask(http, inputs=["one two three", "four"]) == whole


def test_it_is_no_duplicate_of_a_pooled_input(http: TestClient, engine: FakeClient) -> None:
    ask(http, inputs="one")
    http.post("/embed", json={"inputs": "one"})
    [all_tokens], [pooled] = (each.payloads for each in engine.submitted)
    assert refusal(all_tokens) is None
    assert None not in (dedup_key(all_tokens), dedup_key(pooled))
    assert dedup_key(all_tokens) != dedup_key(pooled)


def test_an_answer_has_a_largest_size(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tasks.all_tokens.MOST_NUMBERS", 32 * 6)
    assert len(ask(http, inputs=["one", "two"])) == 2
    refused = ask(http, 422, inputs=["one", "two", "three"])
    assert is_tei_error(refused)
    assert "inputs[2]: with this one the answer has more than 192 numbers" in refused["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": []}, 400),
        ({"inputs": "one", "truncate": "no"}, 422),
        ({"inputs": "one " * 99, "truncate": False}, 422),
        ({"inputs": [1, 99]}, 422),
    ],
)
def test_what_is_wrong_is_said(http: TestClient, body: dict[str, Any], status: int) -> None:
    assert is_tei_error(ask(http, status, **body))


@pytest.mark.parametrize("value", [np.ones(3, np.float32), np.ones((0, 3), np.float32), "text"])
def test_a_runner_that_answers_something_else_has_failed(
    http: TestClient, engine: FakeClient, value: Any
) -> None:
    engine.answer = lambda payload: value
    assert ask(http, 500, inputs="one")["error_type"] == "Backend"


def test_other_models_have_no_vectors_of_tokens(engine: FakeClient, tmp_path: Path) -> None:
    front = make_front(engine)
    spec = read_spec(make_classifier(tmp_path, "bert"))
    front.served = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    with TestClient(create_app(front)) as client:
        refused = ask(client, 424, inputs="one")
    assert "does not answer a vector for each token: use POST /predict" in refused["error"]
