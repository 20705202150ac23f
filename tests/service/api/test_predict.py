"""POST /v1/predict: any JSON in, any answer out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from batcher import Overloaded
from batcher.collector import Collector
from batcher.limits import Limits
from batcher.runner import RunnerInfo
from service.app import create_app
from service.catalog import own_model
from service.tasks.plain_text import TextPassthrough
from tests.fakes import FakeClock
from tests.service.conftest import FakeClient, is_openai_error, is_tei_error, make_front


def serving(engine: FakeClient, task: str = "auto") -> TestClient:
    front = make_front(engine)
    front.served = own_model("my.module:Runner", task, TextPassthrough(), created=0)
    return TestClient(create_app(front))


@pytest.fixture
def http(engine: FakeClient) -> Iterator[TestClient]:
    engine.answer = lambda payload: payload
    with serving(engine) as client:
        yield client


def ask(http: TestClient, status: int = 200, **body: Any) -> Any:
    answer = http.post("/v1/predict", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[TestClient, FakeClient]]:
    engine = FakeClient(answer=lambda payload: payload)
    with serving(engine) as client:
        yield client, engine


def same(one: Any, other: Any) -> bool:
    """Types too: 1 is not 1.0 and not true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@given(inputs=st.lists(JSON, min_size=1, max_size=4))
def test_each_value_reaches_the_model_as_it_was_sent_and_comes_back(
    shared: tuple[TestClient, FakeClient], inputs: list[Any]
) -> None:
    http, engine = shared
    answer = http.post("/v1/predict", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    assert same(engine.last.payloads, inputs)
    assert same(answer.json(), {"outputs": inputs})


def test_one_element_is_one_input_of_the_engine(http: TestClient, engine: FakeClient) -> None:
    ask(http, inputs=["two words", {"a": [1, 2]}, [1, 2, 3], 5])
    assert engine.last.payloads == ["two words", {"a": [1, 2]}, [1, 2, 3], 5]
    assert engine.last.costs == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        (np.float32(0.1), 0.1),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([[1, 2], [3, 4]]).T, [[1, 3], [2, 4]]),  # not in one piece
        (np.array([1.5], np.float16), [1.5]),
        (np.array([258], ">i2"), [258]),
        ({"scores": (np.array([1.5], np.float32), [None])}, {"scores": [[1.5], [None]]}),
        ({1: "an int for a key"}, {"1": "an int for a key"}),
        (np.array(["a", None], object), ["a", None]),
        ("THE TEXT", "THE TEXT"),
        (None, None),
    ],
)
def test_an_answer_may_be_whatever_json_or_numpy_can_hold(
    http: TestClient, engine: FakeClient, answer: object, written: object
) -> None:
    engine.answer = lambda payload: answer
    assert ask(http, inputs=["a"]) == {"outputs": [written]}


@pytest.mark.parametrize("answer", [object(), {1, 2}, b"bytes", np.array([1j]), {(1,): 2}])
def test_an_answer_that_json_cannot_say_fails_its_own_call_and_says_why(
    http: TestClient, engine: FakeClient, answer: object
) -> None:
    engine.answer = lambda payload: answer if payload == "bad" else payload
    refused = ask(http, 500, inputs=["good", "bad"])
    assert is_openai_error(refused)
    assert refused["error"]["code"] == "model_failed"
    assert "the model's answer cannot be written as JSON" in refused["error"]["message"]
    assert ask(http, inputs=["good"]) == {"outputs": ["good"]}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "inputs: this field is required"),
        ({"inputs": None}, 400, "inputs: "),
        ({"inputs": "a"}, 400, "inputs: "),
        ({"inputs": {"a": 1}}, 400, "inputs: "),
        ({"inputs": []}, 422, "inputs: is empty"),
        ({"inputs": [1] * 2049}, 422, "at most 2048"),
        ({"inputs": [1], "input": 2}, 400, "input: there is no such field"),
        ({"inputs": [1], "model": 5}, 400, "model: "),
        ({"inputs": [1], "priority": 8}, 400, "priority: "),
    ],
)
def test_bad_input_is_named(
    http: TestClient, engine: FakeClient, body: dict[str, Any], status: int, says: str
) -> None:
    answer = ask(http, status, **body)
    assert is_openai_error(answer)
    assert says in answer["error"]["message"]
    assert engine.submitted == []


BEYOND = 2**64  # the first whole number that JSON parsers round


@pytest.mark.parametrize(
    "inputs",
    [f"[{BEYOND}]", f"[{-(2**63) - 1}]", f'[{{"a": [0, "b\\"", {BEYOND}]}}]', f"[{'9' * 200}]"],
)
def test_a_whole_number_beyond_64_bits_is_refused_and_not_rounded(
    http: TestClient, engine: FakeClient, inputs: str
) -> None:
    answer = http.post("/v1/predict", content=f'{{"inputs": {inputs}}}')
    assert answer.status_code == 422
    assert "a whole number beyond 64 bits" in answer.json()["error"]["message"]
    assert engine.submitted == []


def test_what_only_looks_like_one_is_given_to_the_model(
    http: TestClient, engine: FakeClient
) -> None:
    given = [BEYOND - 1, -(2**63), float(BEYOND), 1e300, f'"{BEYOND}\\', {f"{BEYOND}": "é"}]
    ask(http, inputs=given)
    assert engine.last.payloads == given
    written = f'{{"inputs": [{BEYOND}.5, {BEYOND}e2, "{"a" * 70_000}"]}}'  # parsed in a thread
    assert http.post("/v1/predict", content=written).status_code == 200
    assert engine.last.payloads[:2] == [BEYOND + 0.5, float(BEYOND * 100)]


@pytest.mark.parametrize(
    "answer",
    [
        float("nan"),
        {"scores": [0.5, (float("-inf"), None)]},
        {float("nan"): 1},
        np.float32("nan"),
        np.array([[1.0, np.inf]], np.float16),
        np.array([[1.0, 2.0], [np.nan, 3.0]]).T,
        np.array([float("nan")], object),
    ],
    ids=repr,
)
def test_an_answer_that_is_not_a_number_fails_its_call_and_is_not_written_as_null(
    http: TestClient, engine: FakeClient, answer: object
) -> None:
    engine.answer = lambda payload: answer if payload == "bad" else payload
    refused = ask(http, 500, inputs=[None, "bad"])
    assert refused["error"]["code"] == "model_failed"
    assert "outputs[1] holds NaN or infinity" in refused["error"]["message"]
    assert ask(http, inputs=[None, "null"]) == {"outputs": [None, "null"]}


def test_ids_deadlines_priorities_and_timings_are_as_on_other_routes(
    http: TestClient, engine: FakeClient
) -> None:
    headers = {"x-request-id": "mine", "x-request-timeout-ms": "500", "priority": "u=1"}
    answer = http.post("/v1/predict", json={"inputs": ["a"]}, headers=headers)
    assert answer.headers["x-request-id"] == "mine"
    assert "inference;dur=" in answer.headers["server-timing"]
    assert engine.last.deadline == 1000.5  # the clock stands at 1000
    assert engine.last.priority == 1
    ask(http, inputs=["a"], priority=6)
    assert engine.last.priority == 6
    engine.error = Overloaded("full", retry_after=2.0)
    refused = http.post("/v1/predict", json={"inputs": ["a"]})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")


# A class of the user's own is served on the routes for vectors as well, if it answers some.


def test_a_model_that_answers_texts_is_a_lasting_refusal_where_vectors_are_asked_for(
    http: TestClient, engine: FakeClient
) -> None:
    engine.answer = lambda payload: payload.upper()
    assert ask(http, inputs=["up"]) == {"outputs": ["UP"]}
    for path, body, status in (
        ("/embed", {"inputs": "a"}, 424),
        ("/v1/embeddings", {"input": ["a", "b"], "model": "my.module:Runner"}, 400),
    ):
        answer = http.post(path, json=body)
        assert answer.status_code == status
        assert "this model is not an embedding model: use POST /v1/predict" in answer.text
        assert answer.headers["x-should-retry"] == "false"
        is_envelope = is_tei_error if path == "/embed" else is_openai_error
        assert is_envelope(answer.json())


def test_a_class_that_answers_vectors_serves_both(http: TestClient, engine: FakeClient) -> None:
    engine.answer = lambda payload: [3.0, 4.0]
    assert http.post("/embed", json={"inputs": "a"}).json() == [pytest.approx([0.6, 0.8])]
    as_made = http.post("/embed", json={"inputs": "a", "normalize": False})
    assert as_made.json() == [[3.0, 4.0]]
    openai = http.post("/v1/embeddings", json={"input": "a", "model": "my.module:Runner"})
    assert openai.json()["data"][0]["embedding"] == pytest.approx([0.6, 0.8])
    assert ask(http, inputs=["a"]) == {"outputs": [[3.0, 4.0]]}


BROKEN_VECTORS = [
    [1.0, float("nan")],
    np.array([1.0, np.inf], np.float32),
    [1.0, 1e300],  # more than float32 holds
    [1.0, 2.0, 3.0],
    [[1.0, 2.0]],
    [1.0, None],
    ["1", "2"],
    [],
    "text",
    None,
]


@pytest.mark.parametrize("answer", BROKEN_VECTORS, ids=repr)
def test_a_class_that_states_a_dimension_is_at_fault_for_any_other_answer(
    engine: FakeClient, answer: object
) -> None:
    engine.up = False
    engine.collector = Collector(Limits(), FakeClock())
    engine.collector.replica_up(0, RunnerInfo(dimension=2))
    engine.answer = lambda payload: answer if payload == "bad" else [1.0, 2.0]
    with serving(engine) as http:
        assert http.post("/embed", json={"inputs": "good"}).status_code == 200
        for path, body in (
            ("/embed", {"inputs": "bad"}),
            ("/embed", {"inputs": "bad", "normalize": False}),
            ("/v1/embeddings", {"input": "bad", "model": "my.module:Runner"}),
            (
                "/v1/embeddings",
                {"input": "bad", "model": "my.module:Runner", "encoding_format": "base64"},
            ),
        ):
            answered = http.post(path, json=body)
            assert answered.status_code == 500, answered.text
            assert "model_failed" in answered.text


@pytest.mark.parametrize("task", ["auto", "embed"])
@pytest.mark.parametrize("answer", [[1.0, float("nan")], np.array([np.inf], np.float32)], ids=repr)
def test_a_vector_that_is_not_finite_is_a_failure_whatever_was_stated(
    engine: FakeClient, task: str, answer: object
) -> None:
    engine.answer = lambda payload: answer
    with serving(engine, task) as http:
        assert http.post("/embed", json={"inputs": "a"}).status_code == 500


def of_a_function(engine: FakeClient) -> FakeClient:
    """Whose replica says that it runs a plain function."""
    engine.up = False
    engine.collector = Collector(Limits(), FakeClock())
    engine.collector.replica_up(0, RunnerInfo(details={"is_model": True}))
    engine.answer = lambda payload: [1.0, 2.0]
    return engine


def test_a_plain_function_is_for_predict_alone(engine: FakeClient) -> None:
    with serving(of_a_function(engine)) as http:
        answer = http.post("/embed", json={"inputs": "a"})
        assert answer.status_code == 424
        assert "use POST /v1/predict" in answer.json()["error"]
        assert engine.submitted == []
        assert ask(http, inputs=["a"]) == {"outputs": [[1.0, 2.0]]}


def test_a_plain_function_is_described_as_what_it_is_before_anyone_asks_for_vectors(
    engine: FakeClient,
) -> None:
    with serving(of_a_function(engine)) as http:
        assert http.get("/info").json()["model_type"] == {}
    with serving(of_a_function(engine)) as http:
        paths = http.get("/openapi.json").json()["paths"]
    assert "/v1/predict" in paths
    assert {"/embed", "/v1/embeddings"}.isdisjoint(paths)


def test_a_plain_function_answers_vectors_where_the_setting_says_so(engine: FakeClient) -> None:
    with serving(of_a_function(engine), task="embed") as http:
        answer = http.post("/embed", json={"inputs": "a", "normalize": False})
        assert answer.json() == [[1.0, 2.0]]
        refused = http.post("/v1/predict", json={"inputs": ["a"]})
    assert refused.status_code == 400
    assert "use POST /v1/embeddings or POST /embed" in refused.json()["error"]["message"]


def test_a_model_for_vectors_is_a_lasting_refusal_on_predict(engine: FakeClient) -> None:
    with TestClient(create_app(make_front(engine))) as http:
        answer = http.post("/v1/predict", json={"inputs": ["a"]})
    assert answer.status_code == 400
    assert answer.headers["x-should-retry"] == "false"
    assert json.loads(answer.content)["error"]["code"] == "model_not_supported"
