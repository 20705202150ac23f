"""Token classifiers at POST /, as huggingface_hub's InferenceClient asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.catalog import ServedModel, text_model
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, is_tei_error, make_front
from tests.service.loopback import run, serving
from tests.service.taggers import LABELS, make_tagger
from tests.service.tiny import read_spec

B_PER, I_PER, LOC = 1, 2, 3
IDS = {"angela": 4, "merkel": 5, "berlin": 6}  # as tests/service/taggers.py numbers them


def answer(payload: Any) -> Any:
    """angela merkel is a person, berlin a place, all else nothing."""
    labels = {IDS["angela"]: B_PER, IDS["merkel"]: I_PER, IDS["berlin"]: LOC}
    logits = np.zeros((len(payload), len(LABELS)), np.float32)
    for row, one in zip(logits, payload.tolist(), strict=True):
        row[labels.get(one, 0)] = 20.0
    return logits


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    spec = read_spec(make_tagger(tmp_path_factory.mktemp("tagger"), "bert"))
    return text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)


@pytest.fixture
def http(engine: FakeClient, served: ServedModel) -> Iterator[TestClient]:
    engine.answer = answer
    front = make_front(engine)
    front.served = served
    with TestClient(create_app(front)) as client:
        yield client


def ask(http: TestClient, status: int = 200, **body: Any) -> Any:
    told = http.post("/", json=body)
    assert told.status_code == status, told.text
    return told.json()


TEXT = "Angela Merkel in Berlin"
PERSON = {"entity_group": "PER", "score": 1.0, "word": "angela merkel", "start": 0, "end": 13}
PLACE = {"entity_group": "LOC", "score": 1.0, "word": "berlin", "start": 17, "end": 23}


def test_entities_are_grouped_as_asked(http: TestClient) -> None:
    grouped = ask(http, inputs=TEXT, parameters={"aggregation_strategy": "simple"})
    assert grouped == [PERSON, PLACE]
    several = ask(http, inputs=[TEXT, "in"], parameters={"aggregation_strategy": "first"})
    assert several == [[PERSON, PLACE], []]


def test_without_a_strategy_each_token_has_its_label(http: TestClient) -> None:
    for parameters in ({}, None, {"aggregation_strategy": None}, {"aggregation_strategy": "none"}):
        found = ask(http, inputs=TEXT, parameters=parameters)
        assert [each["entity"] for each in found] == ["B-PER", "I-PER", "B-LOC"]
        assert found[0] == {
            "entity": "B-PER",
            "score": 1.0,
            "index": 1,
            "word": "angela",
            "start": 0,
            "end": 6,
        }
    assert [each["entity"] for each in ask(http, inputs=TEXT)] == ["B-PER", "I-PER", "B-LOC"]


def test_the_client_in_javascript_gets_entities_where_it_says_nothing(http: TestClient) -> None:
    headers = {"user-agent": "@huggingface/inference/4.13.30 Node.js/22"}
    assert http.post("/", json={"inputs": TEXT}, headers=headers).json() == [PERSON, PLACE]
    asked = {"inputs": TEXT, "parameters": {"aggregation_strategy": "none"}}
    assert len(http.post("/", json=asked, headers=headers).json()) == 3


def test_labels_may_be_left_out(http: TestClient) -> None:
    parameters = {"aggregation_strategy": "simple", "ignore_labels": ["PER"]}
    groups = [each["entity_group"] for each in ask(http, inputs=TEXT, parameters=parameters)]
    assert groups == ["O", "LOC"]


def test_a_long_text_is_read_in_parts_or_cut(http: TestClient, engine: FakeClient) -> None:
    long = "in " * 40 + "Berlin"
    asked = {"aggregation_strategy": "simple"}
    assert ask(http, inputs=long, parameters=asked) == []
    found = ask(http, inputs=long, parameters={**asked, "stride": 10})
    assert [(each["start"], each["end"]) for each in found] == [(120, 126)]
    assert [len(payload) for payload in engine.last.payloads] == [32, 23]
    assert engine.last.costs == [32, 23]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"inputs": []}, 400, "`inputs` cannot be empty"),
        ({"inputs": [1]}, 422, "inputs[0]: must be a text"),
        ({"inputs": [["a", "b"]]}, 422, "inputs[0]: must be a text"),  # a pair
        ({"inputs": {"a": 1}}, 422, "inputs: must be a text or a list of texts"),
        ({"parameters": {"aggregation_strategy": "most"}}, 422, "parameters"),
        ({"parameters": {"aggregation_strategy": "simple", "stride": 30}}, 422, "from 0 to 29"),
        ({"parameters": {"aggregation_strategy": "none", "stride": 3}}, 422, "other than none"),
        ({"parameters": {"stride": -1}}, 422, "parameters"),
    ],
)
def test_what_is_wrong_is_said(
    http: TestClient, body: dict[str, Any], status: int, told: str
) -> None:
    refused = ask(http, status, **{"inputs": TEXT, **body})
    assert is_tei_error(refused)
    assert told in refused["error"]


def test_a_text_in_too_many_parts_is_refused(http: TestClient) -> None:
    body = {"inputs": "in " * 64_000, "parameters": {"stride": 0}}
    assert "batch size 2134 > maximum allowed batch size 2048" in ask(http, 422, **body)["error"]


@pytest.mark.parametrize("shape", [(5, 6), (6, 3), (6,)])
def test_a_runner_that_answers_something_else_has_failed(
    http: TestClient, engine: FakeClient, shape: tuple[int, ...]
) -> None:
    engine.answer = lambda payload: np.zeros(shape, np.float32)
    assert ask(http, 500, inputs=TEXT)["error_type"] == "Backend"


def test_other_routes_say_what_it_is_for(http: TestClient) -> None:
    refused = http.post("/embed", json={"inputs": "a"})
    assert refused.status_code == 424
    assert "is not an embedding model: use POST /" in refused.json()["error"]
    info = http.get("/info").json()
    assert set(info["model_type"]) == {"token_classifier"}
    assert info["model_type"]["token_classifier"]["id2label"]["1"] == "B-PER"


def test_the_hubs_client_reads_the_answer(served: ServedModel) -> None:
    hub = pytest.importorskip("huggingface_hub")

    async def ask_it() -> None:
        engine = FakeClient(answer=answer)
        async with serving(engine) as site:
            site.front.served = served
            client = hub.InferenceClient(model=f"http://127.0.0.1:{site.port}")
            found = await asyncio.to_thread(
                client.token_classification, TEXT, aggregation_strategy="max"
            )
            assert [(each.entity_group, each.word) for each in found] == [
                ("PER", "angela merkel"),
                ("LOC", "berlin"),
            ]

    run(ask_it())
