"""POST /v1/predict of a Model: JSON, files, forms and tensors in; JSON or bytes out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from batcher.collector import Collector
from batcher.failures import as_outcome
from batcher.limits import Limits
from batcher.runner import RunnerInfo
from service.app import create_app
from service.catalog import own_model
from service.models.create import create_runner
from service.tasks.plain_text import TextPassthrough
from tests.fakes import FakeClock
from tests.service.configs import runner_config
from tests.service.conftest import FakeClient, is_openai_error, make_front


@contextlib.contextmanager
def serving(name: str) -> Iterator[TestClient]:
    runner = create_runner(f"tests.service.models.own.models:{name}", runner_config("any"))
    engine = FakeClient(up=False, collector=Collector(Limits(), FakeClock()))
    engine.collector.replica_up(0, RunnerInfo.from_facts(runner.warm_up()))

    def answer(payload: Any) -> Any:
        [result] = runner.run([payload])
        if error := as_outcome(result):
            raise error
        return result

    engine.answer = answer
    front = make_front(engine)
    front.served = own_model(f"my:{name}", "auto", TextPassthrough(), created=0)
    with TestClient(create_app(front)) as http:
        yield http


@pytest.fixture(scope="module")
def doubles() -> Iterator[TestClient]:
    with serving("Doubles") as http:
        yield http


@pytest.fixture(scope="module")
def declared() -> Iterator[TestClient]:
    with serving("Declared") as http:
        yield http


def test_json_is_one_input_or_many(doubles: TestClient) -> None:
    answer = doubles.post("/v1/predict", json={"inputs": ["1", "2 3"]})
    assert answer.json() == {
        "outputs": [{"doubled": [2.0], "batch": 1}, {"doubled": [4.0, 6.0], "batch": 2}]
    }


@pytest.mark.parametrize("media", ["image/png", "application/octet-stream", "text/csv", "a/b; c=d"])
def test_any_other_body_is_one_input(doubles: TestClient, media: str) -> None:
    answer = doubles.post("/v1/predict", content=b"1 2", headers={"content-type": media})
    assert answer.json() == {"outputs": [{"doubled": [2.0, 4.0], "batch": 2}]}


@pytest.mark.parametrize(
    ("one", "media", "body"),
    [("8", "image/svg+xml", b"<eight/>"), ("9", "application/octet-stream", b"nine")],
)
def test_bytes_are_the_whole_answer(doubles: TestClient, one: str, media: str, body: bytes) -> None:
    answer = doubles.post("/v1/predict", json={"inputs": [one]})
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == media
    assert "inference;dur=" in answer.headers["server-timing"]
    both = doubles.post("/v1/predict", json={"inputs": ["1", one]})
    assert both.status_code == 500
    assert "outputs[1] is bytes" in both.json()["error"]["message"]


@pytest.mark.parametrize(
    ("one", "status", "says"),
    [
        ("bad", 422, "this one is bad"),
        ("7", 422, "seven is not answered"),
        ("raise", 500, "ValueError: preprocess broke"),
        ("object", 500, "what preprocess returned cannot be passed on"),
    ],
)
def test_a_bad_input_is_the_callers_fault_and_all_else_the_models(
    doubles: TestClient, one: str, status: int, says: str
) -> None:
    answer = doubles.post("/v1/predict", json={"inputs": [one]})
    assert answer.status_code == status
    assert is_openai_error(answer.json())
    assert says in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("content", "media", "status", "says"),
    [
        (b"", "image/png", 400, "the body is empty"),
        (b"a", "multipart/mixed; boundary=b", 415, "multipart/form-data"),
        (b"a", "multipart/form-data", 400, "there is no boundary"),
        (b"a", "multipart/form-data; boundary=b", 400, "its last boundary is missing"),
        (b"{", "application/json", 400, "not JSON"),
        (b"1", "application/vnd.my+json", 400, "must be a JSON object"),
    ],
)
def test_a_body_that_cannot_be_read_says_why(
    doubles: TestClient, content: bytes, media: str, status: int, says: str
) -> None:
    answer = doubles.post("/v1/predict", content=content, headers={"content-type": media})
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]["message"]


def test_a_model_without_preprocess_takes_json_alone(declared: TestClient) -> None:
    answer = declared.post("/v1/predict", content=b"a", headers={"content-type": "image/png"})
    assert answer.status_code == 415


def test_declared_tensors_are_checked_by_name(declared: TestClient) -> None:
    answer = declared.post("/v1/predict", json={"inputs": [[1, 2], [3, 4.5]]})
    assert answer.json() == {"outputs": [3.0, 7.5]}
    refused = declared.post("/v1/predict", json={"inputs": [[1, 2], [3]]})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "inputs[1]: x must be of shape [2], not [1]"
    assert refused.json()["error"]["param"] == "inputs[1]"


def test_several_tensors_come_by_their_names() -> None:
    with serving("Two") as http:
        one = {"ids": [1, 2, 3], "name": "é"}
        answer = http.post("/v1/predict", json={"inputs": [one]})
        assert answer.json() == {"outputs": [{"name": "é", "sum": 6}]}


def test_the_description_shows_the_models_own_inputs(
    doubles: TestClient, declared: TestClient
) -> None:
    described = declared.get("/openapi.json").json()
    body = described["components"]["schemas"]["PredictBody"]["properties"]["inputs"]["items"]
    assert body == {
        "title": "x",
        "description": "float32 [2]",
        "type": "array",
        "items": {"type": "number"},
        "minItems": 2,
        "maxItems": 2,
    }
    answer = described["components"]["schemas"]["PredictAnswer"]["properties"]["outputs"]["items"]
    assert answer["type"] == "number"
    paths = {name: http.get("/openapi.json").json()["paths"] for name, http in
             (("doubles", doubles), ("declared", declared))}  # fmt: skip
    contents = {
        name: set(found["/v1/predict"]["post"]["requestBody"]["content"])
        for name, found in paths.items()
    }
    assert contents["declared"] == {"application/json"}
    assert {"image/*", "multipart/form-data"} < contents["doubles"]
    assert "/embed" not in json.dumps(list(paths["doubles"]))
