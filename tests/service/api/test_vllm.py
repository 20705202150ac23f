"""POST /score, /classify and /pooling as vLLM answers them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from service.app import create_app
from service.catalog import simulated_model
from service.tasks.plain_text import SimulatedTokenizer
from tests.service.conftest import FakeClient, is_openai_error, make_front, vector_of

VECTORS = {"q": (1, 0), "r": (0, 1), "one": (0, 2), "two": (3, 0), "four": (-1, 1)}
SIDES = [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")]


@pytest.fixture
def model(engine: FakeClient) -> Callable[[str], TestClient]:
    def make(task: str) -> TestClient:
        front = make_front(engine)
        front.served = simulated_model("tests/tiny", task, SimulatedTokenizer(16), created=0)
        return TestClient(create_app(front))

    return make


def ask(http: TestClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def scores(answer: Any) -> list[float]:
    assert answer["object"] == "list"
    assert [(row["index"], row["object"]) for row in answer["data"]] == [
        (place, "score") for place in range(len(answer["data"]))
    ]
    return [row["score"] for row in answer["data"]]


@pytest.mark.parametrize("names", SIDES)
def test_the_sides_may_be_called_as_older_and_newer_clients_do(
    http: TestClient, engine: FakeClient, names: tuple[str, str]
) -> None:
    engine.answer = lambda text: np.array(VECTORS[text], np.float32)
    first, second = names
    for path in ("/score", "/v1/score"):
        answer = ask(http, path, **{first: "q", second: ["one", "two", "four"], "model": "any"})
        assert scores(answer) == [0.0, 1.0, pytest.approx(-(0.5**0.5))]
        assert len(engine.last.payloads) == 4
        assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
        assert answer["model"] == "tests/tiny"


def test_as_many_texts_are_compared_one_by_one(http: TestClient, engine: FakeClient) -> None:
    engine.answer = lambda text: np.array(VECTORS[text], np.float32)
    assert scores(ask(http, "/score", text_1=["q", "r"], text_2=["two", "two"])) == [1.0, 0.0]
    assert scores(ask(http, "/score", text_1="q", text_2="two")) == [1.0]


def test_a_cross_encoder_scores_as_rerank_does(
    engine: FakeClient, model: Callable[[str], TestClient]
) -> None:
    engine.answer = lambda text: np.array([len(text) - 5], np.float32)
    texts = ["one", "two three", ""]
    with model("score") as http:
        wanted = {
            each["index"]: each["score"] for each in ask(http, "/rerank", query="q", texts=texts)
        }
        got = scores(ask(http, "/score", text_1="q", text_2=texts))
        assert got == [wanted[place] for place in range(3)]
        assert scores(ask(http, "/score", text_1=["q"] * 3, text_2=texts)) == got
        raw = scores(ask(http, "/score", text_1="q", text_2=texts, use_activation=False))
        np.testing.assert_allclose(1 / (1 + np.exp(-np.array(raw))), got, 1e-6)


def test_classify_names_the_likeliest_label(
    engine: FakeClient, model: Callable[[str], TestClient]
) -> None:
    engine.answer = lambda text: np.array([0, 2, 1] if text == "a" else [3, 0, 0], np.float32)
    with model("classify") as http:
        told = ask(http, "/classify", input=["a", "b"])["data"]
        assert [(row["index"], row["label"]) for row in told] == [(0, "LABEL_1"), (1, "LABEL_0")]
        wanted = ask(http, "/predict", inputs=[["a"]])[0]
        by_label = {each["label"]: each["score"] for each in wanted}
        assert told[0]["probs"] == [by_label[f"LABEL_{place}"] for place in range(3)]
        assert told[0]["num_classes"] == 3
        (raw,) = ask(http, "/classify", input="a", use_activation=False)["data"]
        assert raw["probs"] == [0.0, 2.0, 1.0]
        (pooled,) = ask(http, "/pooling", input="a")["data"]
        assert pooled == {"index": 0, "object": "pooling", "data": told[0]["probs"]}
        assert ask(http, "/pooling", input="a", use_activation=False, task="classify")["data"][0][
            "data"
        ] == [0.0, 2.0, 1.0]


def test_pooling_answers_the_vectors_of_embed(http: TestClient, engine: FakeClient) -> None:
    wanted = ask(http, "/embed", inputs=["a", "b"])
    answer = ask(http, "/pooling", input=["a", "b"], task="embed", encoding_format="float")
    assert [row["data"] for row in answer["data"]] == wanted
    (packed,) = ask(http, "/pooling", input="a", encoding_format="base64")["data"]
    got = np.frombuffer(base64.b64decode(packed["data"]), "<f4")
    np.testing.assert_array_equal(got, vector_of("a"))


@pytest.mark.parametrize(("side", "kept"), [(None, "0 1 2"), ("right", "0 1 2"), ("left", "7 8 9")])
def test_inputs_are_cut_to_so_many_tokens(
    http: TestClient, engine: FakeClient, side: str | None, kept: str
) -> None:
    text = " ".join(map(str, range(10)))
    ask(http, "/pooling", input=text, truncate_prompt_tokens=3, truncation_side=side)
    assert engine.last.payloads == [kept]
    ask(http, "/pooling", input=text, truncate_prompt_tokens=-1, priority=-5)
    assert engine.last.payloads == [text]
    assert engine.last.priority == 0


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/score", {}, "text_1: is one of two fields that belong together"),
        ("/score", {"text_1": "a"}, "here is text_1"),
        ("/score", {"text_1": "a", "documents": "b"}, "here is text_1 and documents"),
        ("/score", {"text_1": "a", "text_2": []}, "text_2: is empty"),
        ("/score", {"text_1": [], "text_2": "a"}, "text_1: is empty"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["a"] * 3}, "text_2: has 3 texts for the 2"),
        ("/score", {"text_1": ["a", "b"], "text_2": "a"}, "text_2: has 1 texts for the 2"),
        ("/score", {"text_1": "a", "text_2": ["a", 5]}, "text_2[1]: must be a text"),
        ("/score", {"text_1": "a", "text_2": ["a"] * 10_000}, "text_2: 10000 inputs"),
        ("/pooling", {}, "input: this field is required"),
        ("/pooling", {"input": [1, 2]}, "input[0]: must be a text"),
        ("/pooling", {"input": "a", "dimensions": 9}, "dimensions: "),
        ("/pooling", {"input": "a", "task": "token_embed"}, "task: "),
        ("/pooling", {"input": "a", "encoding_format": "bytes"}, "encoding_format: "),
        ("/pooling", {"input": "a", "endianness": "big"}, "endianness: "),
        ("/pooling", {"input": "a", "add_special_tokens": False}, "add_special_tokens: "),
        ("/pooling", {"input": "a", "normalize": False}, "normalize: "),
        ("/classify", {"input": "a", "activation": False}, "activation: "),
        ("/pooling", {"input": "a", "padding": "max_length"}, "padding: "),
        ("/score", {"text_1": "a", "text_2": "b", "max_tokens_per_query": 5}, "max_tokens_per_qu"),
        ("/score", {"text_1": "a", "text_2": "b", "max_tokens_per_doc": 5}, "max_tokens_per_doc"),
        ("/score", {"text_1": "a", "text_2": "b", "instruction": "be kind"}, "instruction: "),
        ("/pooling", {"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ("/pooling", {"input": "a", "truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ("/pooling", {"input": "a", "task": "classify"}, "is not a classifier model"),
        ("/classify", {"input": "a"}, "is not a classifier model"),
    ],
)
def test_what_is_wrong_is_a_400_that_names_the_field(
    http: TestClient, engine: FakeClient, path: str, body: dict[str, Any], says: str
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert is_openai_error(answer.json())
    assert says in answer.json()["error"]["message"]
    assert engine.submitted == []


def test_what_the_model_is_not_for_is_said(
    engine: FakeClient, model: Callable[[str], TestClient]
) -> None:
    with model("classify") as http:
        for path, body in (
            ("/score", {"text_1": "a", "text_2": "b"}),
            ("/pooling", {"input": "a", "task": "embed"}),
        ):
            error = ask(http, path, 400, **body)["error"]
            assert error["code"] == "model_not_supported"
            assert "POST /predict" in error["message"]


def test_an_overload_is_said_in_its_envelope(http: TestClient, engine: FakeClient) -> None:
    engine.error = Overloaded("the queue is full", 1.0)
    assert is_openai_error(ask(http, "/score", 429, text_1="a", text_2="b"))
