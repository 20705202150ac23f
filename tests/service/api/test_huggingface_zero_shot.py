"""Zero-shot classification at POST / against transformers' own pipeline, on tiny random models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

pytest.importorskip("torch")
pytest.importorskip("transformers")

import transformers

from service.app import create_app
from service.catalog import ServedModel, text_model
from service.models.encoder import EncoderRunner
from service.tasks.text import TextTokenizer
from tests.conftest import EFFORT
from tests.service.configs import runner_config
from tests.service.conftest import FakeClient, is_tei_error, make_front
from tests.service.loopback import run, serving
from tests.service.taggers import Kind, make_nli
from tests.service.tiny import read_spec

LOGITS = np.array([2.0, 0.0, 1.0], np.float32)  # contradiction, neutral, entailment
LABELS = ["berlin", "paris", "new"]
MODELS: list[tuple[str, Kind, dict[int, str]]] = [
    ("bert", "wordpiece", {0: "contradiction", 1: "neutral", 2: "entailment"}),
    ("roberta", "bytes", {0: "ENTAILMENT", 1: "NEUTRAL", 2: "CONTRADICTION"}),
    ("distilbert", "words", {0: "entailment", 1: "not_entailment"}),
    ("deberta-v2", "metaspace", {0: "CONTRADICTION", 1: "NEUTRAL", 2: "Entailed"}),
]


def of(folder: Path) -> ServedModel:
    spec = read_spec(folder)
    return text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)


class Stage:
    """A model, as this service runs it and as transformers does."""

    def __init__(self, folder: Path) -> None:
        config = runner_config(str(folder), device="cpu", dtype="float32", threads=1)
        self.runner = EncoderRunner(config)
        self.runner.warm_up()
        self.front = make_front(FakeClient(answer=lambda one: self.runner.run([one])[0]))
        self.front.served = of(folder)
        self.app = create_app(self.front)
        self.pipeline: Any = transformers.pipeline(
            "zero-shot-classification",
            model=str(folder),
            tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
            device=-1,
        )

    def agree(self, text: str, labels: list[str], **asked: Any) -> None:
        expected = self.pipeline(text, candidate_labels=labels, **asked)
        body = {"inputs": text, "parameters": {"candidate_labels": labels, **asked}}
        with TestClient(self.app) as http:
            told = http.post("/", json=body)
        assert told.status_code == 200, told.text
        found = {each["label"]: each["score"] for each in told.json()}
        right = dict(zip(expected["labels"], expected["scores"], strict=True))
        assert found == pytest.approx(right, rel=1e-4, abs=1e-5)
        scores = list(found.values())
        assert scores == sorted(scores, reverse=True)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    return [
        Stage(make_nli(tmp_path_factory.mktemp("nli"), kind, tokenizer, labels))
        for kind, tokenizer, labels in MODELS
    ]


def test_scores_are_those_of_the_pipeline(stages: list[Stage]) -> None:
    for stage in stages:
        for text in ("Angela Merkel lives in Berlin", " ", "merkel " * 60):
            stage.agree(text, LABELS)
            stage.agree(text, LABELS, multi_label=True)
            stage.agree(text, ["berlin"], hypothesis_template="in {}!")


@settings(max_examples=30 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    model=st.integers(0, len(MODELS) - 1),
    words=st.lists(st.sampled_from(["berlin", "Paris", "x", "'s", "É", "."]), max_size=40),
    labels=st.lists(st.sampled_from([*LABELS, "x", "é"]), min_size=1, max_size=4, unique=True),
    template=st.sampled_from(["This example is {}.", "{}", "in the {}", "{{ {} }}"]),
    multi=st.booleans(),
)
def test_drawn_texts_have_the_pipelines_scores(
    stages: list[Stage], model: int, words: list[str], labels: list[str], template: str, multi: bool
) -> None:
    asked = {"hypothesis_template": template, "multi_label": multi}
    stages[model].agree(" ".join(words) or " ", labels, **asked)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return of(make_nli(tmp_path_factory.mktemp("nli"), "bert"))


@pytest.fixture
def http(engine: FakeClient, served: ServedModel) -> Iterator[TestClient]:
    engine.answer = lambda payload: LOGITS
    front = make_front(engine)
    front.served = served
    with TestClient(create_app(front)) as client:
        yield client


def ask(http: TestClient, status: int = 200, inputs: Any = "in berlin", **parameters: Any) -> Any:
    told = http.post("/", json={"inputs": inputs, "parameters": parameters})
    assert told.status_code == status, told.text
    return told.json()


def test_a_list_of_texts_is_answered_with_a_list(http: TestClient) -> None:
    one = ask(http, candidate_labels=["a", "b"])
    assert [each["score"] for each in one] == [0.5, 0.5]
    assert ask(http, inputs=["x", "y"], candidate_labels=["a", "b"]) == [one, one]


def test_labels_may_be_one_text_with_commas(http: TestClient, engine: FakeClient) -> None:
    found = ask(http, candidate_labels="a, b ,,c")
    assert {each["label"] for each in found} == {"a", "b", "c"}
    assert len(engine.last.payloads) == 3


def test_other_parameters_are_those_of_a_classifier(http: TestClient) -> None:
    [ranked] = ask(http, top_k=1)
    assert [each["label"] for each in ranked] == ["contradiction"]


@pytest.mark.parametrize(
    ("parameters", "status", "told"),
    [
        ({"candidate_labels": []}, 400, "`parameters.candidate_labels` cannot be empty"),
        ({"candidate_labels": " , "}, 422, "parameters.candidate_labels: names no label"),
        ({"candidate_labels": [1]}, 422, "parameters.candidate_labels[0]: must be a text"),
        ({"candidate_labels": {}}, 422, "parameters.candidate_labels: must be a list"),
        ({"candidate_labels": ["a"] * 2049}, 422, "2049 inputs; one request may have at most 2048"),
        ({"inputs": ["a", ""]}, 400, "`inputs[1]` cannot be empty"),
        ({"hypothesis_template": "no place"}, 422, "must have one {} for the label"),
        ({"hypothesis_template": "{} or {}"}, 422, "must have one {} for the label"),
        ({"hypothesis_template": "{:>999999999}"}, 422, "must have one {} for the label"),
        ({"hypothesis_template": "{0.__class__}"}, 422, "must have one {} for the label"),
        ({"hypothesis_template": "{"}, 422, "hypothesis_template: cannot be read"),
        ({"hypothesis_template": "x" * 9000 + "{}"}, 422, "more than 8000 characters"),
        ({"hypothesis_template": "berlin " * 40 + "{}"}, 422, "must have less than 32 tokens"),
    ],
)
def test_what_is_wrong_is_said(
    http: TestClient, parameters: dict[str, Any], status: int, told: str
) -> None:
    refused = ask(http, status, **{"candidate_labels": ["a", "b"], **parameters})
    assert is_tei_error(refused)
    assert told in refused["error"]


def test_a_classifier_of_other_things_has_no_zero_shot(engine: FakeClient, tmp_path: Path) -> None:
    front = make_front(engine)
    front.served = of(make_nli(tmp_path, "bert", labels={0: "bad", 1: "good"}))
    with TestClient(create_app(front)) as client:
        refused = ask(client, 424, candidate_labels=["a"])
    assert "no label says entailment): use POST /predict" in refused["error"]


def test_the_hubs_client_reads_the_answer(served: ServedModel) -> None:
    hub = pytest.importorskip("huggingface_hub")

    async def ask_it() -> None:
        engine = FakeClient(answer=lambda payload: LOGITS)
        async with serving(engine) as site:
            site.front.served = served
            client = hub.InferenceClient(model=f"http://127.0.0.1:{site.port}")
            found = await asyncio.to_thread(
                client.zero_shot_classification, "one", ["a", "b"], multi_label=True
            )
            assert [each.label for each in found] == ["b", "a"]
            assert found[0].score == pytest.approx(np.exp(1) / (np.exp(1) + np.exp(2)))

    run(ask_it())
