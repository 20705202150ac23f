"""POST / as huggingface_hub's InferenceClient asks it, and the client itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.catalog import ServedModel, own_model, text_model
from service.tasks.plain_text import TextPassthrough
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, is_tei_error, make_front, vector_of
from tests.service.loopback import run, serving
from tests.service.tiny import make_classifier, read_spec

LOGITS = np.array([1.0, 3.0, 2.0], np.float32)
NAMES = {0: "bad", 1: "good", 2: "so so"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return served(make_classifier(tmp_path_factory.mktemp("classifier"), "bert", id2label=NAMES))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return served(make_classifier(tmp_path_factory.mktemp("scorer"), "bert", 1))


def served(folder: Path) -> ServedModel:
    spec = read_spec(folder)
    return text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)


@pytest.fixture
def of(engine: FakeClient) -> Iterator[Callable[[ServedModel | None], TestClient]]:
    """A service with that model; None: an embedder."""
    front = make_front(engine)
    with TestClient(create_app(front)) as client:

        def of(model: ServedModel | None) -> TestClient:
            if model is not None:
                front.served = model
                answer = LOGITS[: len(model.tasks[next(iter(model.tasks))].labels)]  # type: ignore[attr-defined]  # it has these
                engine.answer = lambda payload: answer
            return client

        yield of


Of = Callable[[ServedModel | None], TestClient]


def ask(http: TestClient, status: int = 200, path: str = "/", **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert is_tei_error(answer.json())
    return answer.json()


def test_an_embedder_answers_as_embed_does(of: Of, engine: FakeClient) -> None:
    http = of(None)
    for inputs in ("a", ["a", "b"], [[1, 2], [3]]):
        assert ask(http, inputs=inputs) == ask(http, path="/embed", inputs=inputs)
    options = {"encoding_format": "float", "normalize": True, "prompt_name": None, "truncate": None}
    assert ask(http, inputs="a", **options) == ask(http, path="/embed", inputs="a")
    within = ask(http, inputs="a", parameters={"dimensions": 2, "unknown": 1}, dimensions=None)
    assert within == ask(http, path="/embed", inputs="a", dimensions=2)
    beside = ask(http, inputs="a", parameters={"dimensions": 2}, dimensions=3)
    assert beside == ask(http, path="/embed", inputs="a", dimensions=3)


def test_the_shape_of_the_body_says_what_is_asked_for(of: Of) -> None:
    http = of(None)
    similar = {"inputs": {"source_sentence": "a", "sentences": ["b", "a"]}, "parameters": {}}
    got = ask(http, **similar)
    assert got == ask(http, path="/similarity", **similar)
    assert got[1] == 1.0
    rank = {"query": "a", "texts": ["b", "a"]}
    assert ask(http, **rank) == ask(http, path="/rerank", **rank)


def test_with_parameters_a_classifier_answers_a_list_for_each_input(
    of: Of, classifier: ServedModel, engine: FakeClient
) -> None:
    http = of(classifier)
    flat = ask(http, inputs="one")
    assert flat == ask(http, path="/predict", inputs="one")
    assert [each["label"] for each in flat] == ["good", "so so", "bad"]
    assert ask(http, inputs="one", parameters={}) == [flat]
    assert ask(http, inputs="one", parameters=None) == [flat]
    assert ask(http, inputs=["one", "two"], parameters={}) == [flat, flat]
    pair = {"text": "one", "text_pair": "two"}
    assert ask(http, inputs=pair, parameters={}) == [flat]
    assert ask(http, inputs=[pair, {"text": "one"}], parameters={}) == [flat, flat]
    assert [payload["input_ids"].size for payload in engine.last.payloads[:1]] == [5]


JAVASCRIPT = {"user-agent": "@huggingface/inference/4.13.30 Node.js/22"}


def test_the_client_in_javascript_gets_a_list_for_each_input_without_parameters(
    of: Of, classifier: ServedModel
) -> None:
    http = of(classifier)
    flat = ask(http, inputs="one")
    assert http.post("/", json={"inputs": "one"}, headers=JAVASCRIPT).json() == [flat]


@pytest.mark.parametrize(
    ("body", "of_a_classifier", "says"),
    [
        ({"inputs": "a", "parameters": {"aggregation_strategy": "simple"}}, True, "token classif"),
        ({"inputs": "a", "parameters": {"top_k": 2}}, False, "text classification or image"),
        ({"inputs": "a", "parameters": {"candidate_labels": ["b"]}}, False, "zero-shot"),
        ({"inputs": "a", "parameters": {"targets": ["b"]}}, True, "fill-mask"),
        ({"inputs": "a", "parameters": {"max_new_tokens": 9}}, False, "text generation"),
        ({"inputs": "a", "normalize": False}, True, "feature extraction"),
        ({"inputs": {"source_sentence": "a", "sentences": ["b"]}}, True, "sentence similarity"),
        ({"inputs": {"question": "a", "context": "b"}, "parameters": {}}, False, "question answ"),
        ({"inputs": {"table": {}, "query": "b"}, "parameters": {}}, True, "table question answ"),
    ],
)
def test_another_task_is_refused_and_not_answered_as_if_it_were_this_one(
    of: Of, classifier: ServedModel, body: Any, of_a_classifier: bool, says: str
) -> None:
    http = of(classifier if of_a_classifier else None)
    refused = ask(http, 424, **body)
    assert refused["error_type"] == "Backend"
    assert says in refused["error"].partition(";")[0]
    assert "the model that is served here is for" in refused["error"]


def test_null_asks_for_nothing(of: Of, classifier: ServedModel) -> None:
    parameters = {"aggregation_strategy": None, "top_k": 1}
    assert ask(of(classifier), inputs="one", normalize=None, parameters=parameters)


@pytest.mark.parametrize(
    ("function", "scores"),
    [
        ("none", [3, 2, 1]),
        ("sigmoid", [0.95257413, 0.88079708, 0.73105858]),
        ("softmax", [0.66524096, 0.24472847, 0.09003057]),
        (None, [0.66524096, 0.24472847, 0.09003057]),
    ],
)
def test_the_function_and_the_number_of_labels_are_the_callers(
    of: Of, classifier: ServedModel, function: str | None, scores: list[float]
) -> None:
    for top_k, kept in ((None, 3), (1, 1), (2, 2), (9, 3)):
        parameters = {"function_to_apply": function, "top_k": top_k}
        [got] = ask(of(classifier), inputs="one", parameters=parameters)
        assert [each["score"] for each in got] == pytest.approx(scores[:kept])


def test_a_cross_encoder_ranks_and_classifies(of: Of, scorer: ServedModel) -> None:
    http = of(scorer)
    [[got]] = ask(http, inputs={"text": "one", "text_pair": "two"}, parameters={})
    assert got == {"label": "LABEL_0", "score": pytest.approx(0.73105858)}
    rank = {"query": "one", "texts": ["two", "three"]}
    assert ask(http, **rank) == ask(http, path="/rerank", **rank)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "inputs: this field is required"),
        ({"inputs": "a", "parameters": 5}, 422, "parameters: "),
        ({"inputs": [], "parameters": {}}, 400, "`inputs` cannot be empty"),
        ({"inputs": 5, "parameters": {}}, 422, "inputs: must be a text, an object"),
        ({"inputs": ["a", 5], "parameters": {}}, 422, "inputs[1]: must be a text, or an object"),
        ({"inputs": {"text": 5}, "parameters": {}}, 422, "inputs.text: must be a text"),
        ({"inputs": [{"text": "a", "text_pair": []}], "parameters": {}}, 422, "inputs[0].text_pa"),
        ({"inputs": ["a"] * 2049, "parameters": {}}, 422, "batch size 2049 > maximum"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, 422, "parameters.top_k: "),
        ({"inputs": "a", "parameters": {"function_to_apply": "x"}}, 422, "parameters.function_to"),
        ({"query": "a", "texts": ["a"]}, 424, "is not a re-ranker model: use POST /predict"),
    ],
)
def test_bad_input_of_a_classifier_is_named(
    of: Of, classifier: ServedModel, engine: FakeClient, body: Any, status: int, says: str
) -> None:
    assert says in ask(of(classifier), status, **body)["error"]
    assert engine.submitted == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "inputs: this field is required"),
        ({"inputs": "a", "parameters": 5}, 422, "parameters: "),
        ({"inputs": {}}, 422, "inputs.source_sentence: this field is required"),
        ({"query": "a"}, 422, "texts: this field is required"),
    ],
)
def test_bad_input_of_an_embedder_is_named(of: Of, body: Any, status: int, says: str) -> None:
    assert says in ask(of(None), status, **body)["error"]


def test_a_model_of_the_users_own_has_a_route_of_its_own(engine: FakeClient) -> None:
    front = make_front(engine)
    front.served = own_model("my.module:function", "predict", TextPassthrough(), created=0)
    with TestClient(create_app(front)) as http:
        assert "use POST /v1/predict" in ask(http, 424, inputs="a")["error"]


def test_the_real_client_reads_the_answers(classifier: ServedModel) -> None:
    hub = pytest.importorskip("huggingface_hub")

    async def ask_all() -> None:
        engine = FakeClient()
        async with serving(engine) as site:
            client = hub.InferenceClient(model=f"http://127.0.0.1:{site.port}")
            got = await asyncio.to_thread(client.feature_extraction, "a", normalize=True)
            vector = vector_of("a")
            np.testing.assert_allclose(got, [vector], rtol=1e-6)
            close = await asyncio.to_thread(client.sentence_similarity, "a", ["b", "a"])
            assert close[1] == pytest.approx(1)
            site.front.served = classifier
            engine.answer = lambda payload: LOGITS
            labels = await asyncio.to_thread(client.text_classification, "one", top_k=2)
            assert [each.label for each in labels] == ["good", "so so"]
            assert labels[0].score == pytest.approx(0.66524096)

    run(ask_all())
