"""POST /predict as text-embeddings-inference answers it."""

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
from tests.service.tiny import make_classifier, read_spec

LOGITS = np.array([1.0, 3.0, 2.0], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(
        tmp_path_factory.mktemp("classifier"), "bert", id2label={0: "bad", 1: "good", 2: "so so"}
    )


@pytest.fixture
def http(engine: FakeClient, folder: Path) -> Iterator[TestClient]:
    spec = read_spec(folder)
    engine.answer = lambda payload: LOGITS
    front = make_front(engine)
    front.served = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    with TestClient(create_app(front)) as client:
        yield client


def ask(http: TestClient, status: int = 200, **body: Any) -> Any:
    answer = http.post("/predict", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def labels(ranked: list[dict[str, Any]]) -> list[str]:
    assert all(set(each) == {"label", "score"} for each in ranked)
    scores = [each["score"] for each in ranked]
    assert scores == sorted(scores, reverse=True)
    return [each["label"] for each in ranked]


@pytest.mark.parametrize("given", ["one", ["one"], ["one", "two"]])
def test_one_input_is_answered_with_one_list(
    http: TestClient, engine: FakeClient, given: Any
) -> None:
    got = ask(http, inputs=given)
    assert labels(got) == ["good", "so so", "bad"]
    assert sum(each["score"] for each in got) == pytest.approx(1)
    assert len(engine.last.payloads) == 1


def test_a_batch_is_answered_with_a_list_for_each(http: TestClient, engine: FakeClient) -> None:
    got = ask(http, inputs=[["one"], ["one", "two"]])
    assert [labels(each) for each in got] == [["good", "so so", "bad"]] * 2
    assert len(engine.last.payloads) == 2
    assert len(ask(http, inputs=[["one"]])) == 1


def test_raw_scores_are_the_logits(http: TestClient) -> None:
    got = ask(http, inputs="one", raw_scores=True)
    assert [each["score"] for each in got] == [3.0, 2.0, 1.0]


def test_options_of_its_clients_are_taken(http: TestClient, engine: FakeClient) -> None:
    ask(http, inputs="one " * 20, truncate=None, truncation_direction="right", priority=5)
    assert engine.last.costs == [16]
    assert engine.last.priority == 5
    for direction, before_last in (("Left", 5), ("left", 5), ("Right", 4), (None, 4)):
        ask(http, inputs="one " * 20 + "two", truncation_direction=direction)
        [payload] = engine.last.payloads
        assert payload[-2] == before_last


@pytest.mark.parametrize(
    ("body", "status", "says", "kind"),
    [
        ({}, 422, "inputs: this field is required", "Validation"),
        ({"inputs": 5}, 422, "inputs: must be a text, a pair", "Validation"),
        ({"inputs": []}, 400, "`inputs` cannot be empty", "Empty"),
        ({"inputs": ["a", "b", "c"]}, 422, "inputs: holds 3 texts", "Validation"),
        ({"inputs": [["a"]] * 2049}, 422, "batch size 2049 > maximum", "Validation"),
        (
            {"inputs": [["a"], ["one " * 20]], "truncate": False},
            422,
            "`inputs[1]` must have",
            "Validation",
        ),
        (
            {"inputs": "a", "truncation_direction": "up"},
            422,
            "truncation_direction: ",
            "Validation",
        ),
    ],
)
def test_bad_input_is_named(
    http: TestClient, body: dict[str, Any], status: int, says: str, kind: str
) -> None:
    answer = ask(http, status, **body)
    assert is_tei_error(answer)
    assert says in answer["error"]
    assert answer["error_type"] == kind


def test_vectors_of_a_classifier_are_a_lasting_refusal(
    http: TestClient, engine: FakeClient
) -> None:
    answer = http.post("/embed", json={"inputs": "one"})
    assert answer.status_code == 424
    assert is_tei_error(answer.json())
    assert answer.json()["error"] == "this model is not an embedding model: use POST /predict"
    assert answer.headers["x-should-retry"] == "false"
    answer = http.post("/v1/embeddings", json={"input": "one", "model": "tiny"})
    assert answer.status_code == 400
    assert is_openai_error(answer.json())
    assert engine.submitted == []


def test_scores_of_an_embedder_are_a_lasting_refusal(engine: FakeClient) -> None:
    with TestClient(create_app(make_front(engine))) as http:
        answer = http.post("/predict", json={"inputs": "one"})
    assert answer.status_code == 424
    assert answer.json()["error_type"] == "Backend"
    assert (
        "is not a classifier model: use POST /v1/embeddings or POST /embed"
        in answer.json()["error"]
    )


def test_info_names_the_labels(http: TestClient) -> None:
    assert http.get("/info").json()["model_type"] == {
        "classifier": {
            "id2label": {"0": "bad", "1": "good", "2": "so so"},
            "label2id": {"bad": 0, "good": 1, "so so": 2},
        }
    }
