from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Draining
from batcher.runner import RunnerInfo
from tests.service.conftest import FakeClient, is_tei_error, vector_of


def ask(http: TestClient, status: int = 200, **body: Any) -> Any:
    answer = http.post("/embed", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("given", "payloads"),
    [
        ("one text", ["one text"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2, 3], ["1 2 3"]),
        ([[1, 2], "b"], ["1 2", "b"]),
        ("", [""]),
        ([""], [""]),
    ],
)
def test_the_answer_is_always_a_list_of_vectors(
    http: TestClient, engine: FakeClient, given: Any, payloads: list[str]
) -> None:
    for options in ({}, {"normalize": True}):  # the bare body takes a short cut
        got = np.array(ask(http, inputs=given, **options), np.float32)
        assert engine.last.payloads == payloads
        np.testing.assert_array_equal(got, [vector_of(payload) for payload in payloads])


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "inputs: this field is required"),
        ({"inputs": None}, 422, "inputs: must be"),
        ({"inputs": 1}, 422, "inputs: must be"),
        ({"inputs": ["a", {}]}, 422, "inputs[1]: must be"),
        ({"inputs": [1, None]}, 422, "inputs: token 1 must be"),
        ({"inputs": [["a", "b"]]}, 422, "inputs: token 0 must be"),  # a pair
        ({"inputs": []}, 400, "`inputs` cannot be empty"),
        ({"inputs": [[1], []]}, 400, "`inputs[1]` cannot be empty"),
        ({"inputs": ["a"] * 2049}, 422, "batch size 2049 > maximum"),
        ({"inputs": [30522]}, 422, "inputs: token 0 is 30522"),
        (
            {"inputs": "w " * 17, "truncate": False},
            422,
            "`inputs` must have less than 16 tokens. Given: 17",
        ),
        ({"inputs": "a", "truncate": "yes"}, 422, "truncate: "),
        ({"inputs": "a", "truncation_direction": "up"}, 422, "truncation_direction: "),
        ({"inputs": "a", "normalize": "no"}, 422, "normalize: "),
        ({"inputs": "a", "prompt_name": "query"}, 422, "prompt_name: there is no prompt 'query'"),
        ({"inputs": ["a", "b"], "prompt_name": ""}, 422, "prompt_name: there is no prompt ''"),
        ({"inputs": "a", "prompt_name": 1}, 422, "prompt_name: "),
        ({"inputs": "a", "dimensions": 9}, 422, "`dimensions` should be smaller"),
        ({"inputs": "a", "dimensions": 0}, 422, "`dimensions` should be positive"),
        ({"inputs": "a", "dimensions": -1}, 422, "`dimensions` should be positive"),
        ({"inputs": "a", "dimensions": 1.5}, 422, "dimensions: "),
        ({"inputs": "a", "dimensions": True}, 422, "dimensions: "),
        ({"input": "b"}, 422, "inputs: this field is required"),
    ],
)
def test_bad_input_is_named_and_does_no_harm(
    http: TestClient, body: dict[str, Any], status: int, says: str
) -> None:
    answer = ask(http, status, **body)
    assert is_tei_error(answer)
    assert says in answer["error"]
    assert answer["error_type"] == ("Empty" if "empty" in says else "Validation")
    assert ask(http, inputs="good")


def test_options_of_its_clients_are_taken(http: TestClient, engine: FakeClient) -> None:
    ask(
        http,
        inputs="w " * 20,
        truncate=None,
        truncation_direction="right",
        prompt_name=None,
        dimensions=None,
        normalize=None,
    )
    assert engine.last.costs == [16]
    got = np.array(ask(http, inputs="a", dimensions=2))
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)
    assert got.shape == (1, 2)


def test_the_end_that_is_cut_off_is_the_callers_choice(
    http: TestClient, engine: FakeClient
) -> None:
    words = [str(number) for number in range(20)]
    for direction, kept in (("Left", words[4:]), ("left", words[4:]), (None, words[:16])):
        ask(http, inputs=[" ".join(words)], truncation_direction=direction)
        assert engine.last.payloads == [" ".join(kept)]


def test_large_answers_are_the_same_as_small_ones(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ask(http, inputs=["a", "b"])
    monkeypatch.setattr("service.api.tei.embed.LARGE", 1)
    assert ask(http, inputs=["a", "b"]) == small


def test_the_engines_errors_have_teis_names(http: TestClient, engine: FakeClient) -> None:
    engine.error = Draining("ending", retry_after=1.0)
    assert ask(http, 503, inputs="a")["error_type"] == "Unhealthy"


def test_info_has_teis_fields_and_ours(http: TestClient) -> None:
    info = http.get("/info").json()
    assert info["model_id"] == "tests/tiny"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 16
    assert info["max_batch_requests"] == 64
    assert info["max_client_batch_size"] == 2048
    assert (info["model_dtype"], info["device"], info["dimension"]) == ("float32", "cpu", 8)
    assert info["places"] == [{"device": None, "cores": None}]


def test_info_says_where_each_replica_runs(http: TestClient, engine: FakeClient) -> None:
    engine.up = False
    engine.collector.replica_up(0, RunnerInfo(placed_on="cpu", cores="1-3"))
    assert http.get("/info").json()["places"] == [{"device": "cpu", "cores": "1-3"}]


def test_info_says_what_runs_the_model_and_what_came_of_compiling_it(
    http: TestClient, engine: FakeClient
) -> None:
    assert http.get("/info").json()["backend"] is None  # a runner of the user's own
    facts = {"backend": "torch", "backend_chosen": "measured", "compile": "no C++ compiler"}
    engine.up = False
    engine.collector.replica_up(0, RunnerInfo.from_facts(facts))
    info = http.get("/info").json()
    assert {name: info[name] for name in facts} == facts
