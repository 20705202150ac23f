from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Overloaded, RunnerFailed
from service.app import create_app
from service.processes.build import _named
from service.settings import Settings
from service.state import AppState
from tests.service.conftest import FakeClient, is_openai_error, make_front, vector_of


@pytest.fixture
def front(engine: FakeClient) -> AppState:
    return make_front(engine, token_ids="model")


def ask(http: TestClient, status: int = 200, **body: Any) -> Any:
    answer = http.post("/v1/embeddings", json={"model": "tests/tiny", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def error_of(http: TestClient, status: int, **body: Any) -> dict[str, Any]:
    answer = ask(http, status, **body)
    assert is_openai_error(answer)
    error: dict[str, Any] = answer["error"]
    return error


@pytest.mark.parametrize(
    ("given", "payloads"),
    [
        ("one text", ["one text"]),
        (["a", "b", "c"], ["a", "b", "c"]),
        ([1, 2, 3], ["1 2 3"]),
        ([[1, 2], [3]], ["1 2", "3"]),
        (["a", [7]], ["a", "7"]),
        ("", [""]),
    ],
)
def test_every_shape_of_input_becomes_requests_in_order(
    http: TestClient, engine: FakeClient, given: Any, payloads: list[str]
) -> None:
    answer = ask(http, input=given)
    assert engine.last.payloads == payloads
    assert [one["index"] for one in answer["data"]] == list(range(len(payloads)))
    for one, payload in zip(answer["data"], payloads, strict=True):
        assert one["object"] == "embedding"
        np.testing.assert_array_equal(np.float32(one["embedding"]), vector_of(payload))
    tokens = sum(engine.last.costs)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (answer["object"], answer["model"]) == ("list", "tests/tiny")


def test_base64_is_the_little_endian_floats_themselves(http: TestClient) -> None:
    answer = ask(http, input=["a", "b"], encoding_format="base64")
    for one, text in zip(answer["data"], ["a", "b"], strict=True):
        got = np.frombuffer(base64.b64decode(one["embedding"], validate=True), "<f4")
        np.testing.assert_array_equal(got, vector_of(text))


def test_dimensions_keep_the_first_numbers_at_length_one(http: TestClient) -> None:
    got = np.array(ask(http, input="a", dimensions=3)["data"][0]["embedding"])
    wanted = vector_of("a")[:3]
    np.testing.assert_allclose(got, wanted / np.linalg.norm(wanted), rtol=1e-6)
    assert ask(http, input="a", dimensions=8)["data"]
    error = error_of(http, 400, input="a", dimensions=9)
    assert error["param"] == "dimensions"
    assert "8" in error["message"]


def test_the_model_goes_by_its_id_or_the_last_part_of_it(http: TestClient) -> None:
    assert ask(http, input="a", model="tiny")["model"] == "tests/tiny"
    for other in ("text-embedding-3-small", "", None):
        assert ask(http, input="a", model=other)["model"] == "tests/tiny"
    assert http.post("/v1/embeddings", json={"input": "a"}).json()["model"] == "tests/tiny"


def test_another_name_is_refused_where_a_setting_says_so(http: TestClient, front: AppState) -> None:
    front.served = dataclasses.replace(front.model(), takes_any_name=False)
    error = error_of(http, 404, input="a", model="x" * 10_000)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "'tests/tiny'" in error["message"]
    assert len(error["message"]) < 200
    assert ask(http, input="a", model="tiny")["data"]
    assert ask(http, input="a", model=None)["data"]


def test_names_of_the_settings_are_listed_and_answers_say_the_first(
    http: TestClient, front: AppState
) -> None:
    settings = Settings(
        model="tests/tiny", runner="simulated", served_model_names="bge, text-embedding-3-small"
    )
    front.served = _named(front.model(), settings)
    listed = http.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["bge", "text-embedding-3-small"]
    assert http.get("/v1/models/text-embedding-3-small").json() == listed[1]
    assert ask(http, input="a", model="text-embedding-3-small")["model"] == "bge"


@pytest.mark.parametrize(
    ("body", "status", "param", "says"),
    [
        ({"input": None}, 400, "input", "null"),
        ({"input": 5}, 400, "input", "the number 5"),
        ({"input": {"a": 1}}, 400, "input", "an object"),
        ({"input": ["a", 5]}, 400, "input[1]", "the number 5"),
        ({"input": ["a", None]}, 400, "input[1]", "null"),
        ({"input": [1, "a"]}, 400, "input", "token 1 must be an integer"),
        ({"input": [1, 2.5]}, 400, "input", "token 1"),
        ({"input": [1, True]}, 400, "input", "true"),
        ({"input": [[1, [2]]]}, 400, "input", "a list"),
        ({"input": [["a", "b"]]}, 400, "input", "token 0"),  # a pair
        ({"input": ["a", [1, [2]]]}, 400, "input[1]", "token 1"),
        ({"input": []}, 400, "input", "empty"),
        ({"input": [[]]}, 400, "input[0]", "empty"),
        ({"input": ["a"] * 2049}, 400, "input", "at most 2048"),
        ({"input": [1, -1]}, 400, "input", "token 1 is -1"),
        ({"input": [[5], [2**40]]}, 400, "input[1]", "token 0"),
        ({"input": "w " * 17, "truncate": False}, 400, "input", "17 tokens"),
        ({"input": ["a", "w " * 17], "truncate": False}, 400, "input[1]", "the limit is 16"),
        ({}, 400, "input", "required"),
        ({"input": "a", "model": 5}, 400, "model", "string"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", "base64"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions", "greater than or equal to 1"),
        ({"input": "a", "dimensions": "3"}, 400, "dimensions", "integer"),
        ({"input": "a", "dimensions": True}, 400, "dimensions", "integer"),
        ({"input": "a", "truncate": 1}, 400, "truncate", "boolean"),
        ({"input": "a", "user": 5}, 400, "user", "string"),
        ({"input": "a", "truncate": "END "}, 400, "truncate", "NONE, START or END"),
        ({"input": "w " * 17, "truncate": "NONE"}, 400, "input", "17 tokens"),
    ],
)
def test_bad_input_is_named_and_never_reaches_the_engine(
    http: TestClient,
    engine: FakeClient,
    body: dict[str, Any],
    status: int,
    param: str,
    says: str,
) -> None:
    error = error_of(http, status, **body)
    assert error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert engine.submitted == []
    assert ask(http, input="good")["data"]


@pytest.mark.parametrize(
    ("given", "kept"), [(None, slice(16)), ("END", slice(16)), ("START", slice(4, 20))]
)
def test_a_long_text_is_cut_at_the_end_that_nvidias_clients_name(
    http: TestClient, engine: FakeClient, given: str | None, kept: slice
) -> None:
    words = [str(number) for number in range(20)]
    ask(http, input=" ".join(words), truncate=given)
    assert engine.last.payloads == [" ".join(words[kept])]


def test_a_text_over_the_limit_is_cut_unless_the_caller_objects(
    http: TestClient, engine: FakeClient
) -> None:
    assert ask(http, input="w " * 40)["usage"]["prompt_tokens"] == 16
    assert engine.last.payloads == [" ".join(["w"] * 16)]


def test_many_and_long_inputs_are_answered_in_order_too(
    http: TestClient, engine: FakeClient
) -> None:
    texts = [f"text {number}" for number in range(256)]
    assert len(ask(http, input=texts)["data"]) == 256
    assert engine.last.payloads == texts
    ask(http, input=["a", "word " * 50_000])
    assert engine.last.costs == [1, 16]


def test_large_answers_are_the_same_as_small_ones(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ask(http, input=["a", "b"])
    coded = ask(http, input=["a", "b"], encoding_format="base64")
    monkeypatch.setattr("service.api.openai.LARGE", 1)
    monkeypatch.setattr("service.tasks.embed.LARGE", 1)  # a piece for each vector
    assert ask(http, input=["a", "b"]) == small
    assert ask(http, input=["a", "b"], encoding_format="base64") == coded


def test_the_engines_errors_come_in_the_envelope(http: TestClient, engine: FakeClient) -> None:
    engine.error = Overloaded("9 wait", retry_after=2.2)
    error = error_of(http, 429, input="a")
    assert (error["type"], error["code"]) == ("overloaded_error", "overloaded")
    engine.error = RunnerFailed("ValueError: no")
    assert error_of(http, 500, input="a")["code"] == "model_failed"


def test_models_are_listed_and_described(http: TestClient) -> None:
    listed = http.get("/v1/models").json()
    assert listed["object"] == "list"
    [model] = listed["data"]
    assert model == {
        "id": "tests/tiny",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "batcher",
    }
    assert http.get("/v1/models/tests/tiny").json() == model
    assert http.get("/v1/models/tiny").json() == model


@pytest.mark.parametrize("name", ["gpt-9", "../../etc/passwd", "%2e%2e%2fetc%2fpasswd", "x" * 5000])
def test_an_unknown_model_is_404_whatever_its_name(http: TestClient, name: str) -> None:
    answer = http.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    assert is_openai_error(answer.json()) or "etc/passwd" in name


def test_it_is_not_ready_before_the_model_is_found(http: TestClient, front: Any) -> None:
    front.served = None
    for answer in (
        http.post("/v1/embeddings", json={"model": "tests/tiny", "input": "a"}),
        http.get("/v1/models"),
    ):
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
        assert answer.headers["retry-after"] == "1"


def test_a_body_of_many_unknown_fields_is_refused_at_the_first(engine: FakeClient) -> None:
    body = {"input": "a", "model": "tiny"} | {f"x{number}": 1 for number in range(1000)}
    with TestClient(create_app(make_front(engine, unknown_fields="refuse"))) as http:
        error = http.post("/v1/embeddings", json=body).json()["error"]
    assert (error["param"], error["message"]) == ("x0", "x0: there is no such field")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": [1.0, 2, 3.0]}, 200),  # JSON Schema: 1.0 is an integer
        ({"input": [[1.0], "a"]}, 200),
        ({"input": [1.5]}, 400),
        ({"input": [1.0, 99999.0]}, 400),
        ({"input": "a", "dimensions": 8.0}, 200),
        ({"input": "a", "dimensions": 7.5}, 400),
    ],
)
def test_a_whole_number_is_an_integer_however_it_is_written(
    http: TestClient, body: dict[str, Any], status: int
) -> None:
    assert http.post("/v1/embeddings", json={"model": "tiny", **body}).status_code == status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("late_chunking", True),
        ("late_chunking", 0),
        ("return_multivector", True),
        ("embedding_type", "binary"),
        ("normalized", False),
        ("normalized", 1),
        ("normalize", False),
        ("output_dtype", "int8"),
        ("add_special_tokens", False),
        ("use_activation", False),
        ("embed_dtype", "float16"),
        ("endianness", "big"),
        ("truncate_prompt_tokens", 0),
        ("output_dimension", 9),
        ("task", ["retrieval.query"]),
    ],
)
def test_what_would_change_a_vector_and_is_not_offered_is_refused(
    http: TestClient, engine: FakeClient, field: str, value: object
) -> None:
    message = error_of(http, 400, input="a", **{field: value})["message"]
    assert message.startswith("dimensions" if field == "output_dimension" else field)
    assert engine.submitted == []


def test_other_names_of_ours_are_read(http: TestClient, engine: FakeClient) -> None:
    assert ask(http, input="a", output_dimension=3) == ask(http, input="a", dimensions=3)
    words = [str(number) for number in range(10)]
    for side, kept in (("left", words[-3:]), (None, words[:3])):
        ask(http, input=" ".join(words), truncate_prompt_tokens=3, truncation_side=side)
        assert engine.last.payloads == [" ".join(kept)]
    assert (
        "3"
        in error_of(http, 400, input="1 2 3 4", truncate=False, truncate_prompt_tokens=3)["message"]
    )


def test_jinas_form_of_a_text_is_a_text(http: TestClient, engine: FakeClient) -> None:
    for given in ([{"text": "a"}, "b", [7]], [{"text": "a"}, {"text": "b"}], {"text": "a"}):
        ask(http, input=given)
        assert engine.last.payloads == ["a", "b", "7"][: len(engine.last.payloads)]
        assert len(engine.last.payloads) == (len(given) if isinstance(given, list) else 1)


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({"task": "retrieval.query"}, "query"),
        ({"task": "retrieval.passage"}, "document"),
        ({"input_type": "passage"}, "document"),
        ({"input_type": "clustering"}, "Clustering"),
        ({"task": "unknown"}, None),
        ({"task": None}, None),
        ({"task": "retrieval.query", "prompt_name": "Clustering"}, "Clustering"),
        ({"task": "retrieval.query", "input_type": "passage"}, "query"),
    ],
)
def test_what_texts_are_for_chooses_the_prompt_that_the_model_has(
    http: TestClient, front: AppState, body: dict[str, Any], prompt: str | None
) -> None:
    there = dict.fromkeys(("query", "document", "Clustering"), "")
    front.served = dataclasses.replace(front.model(), prompts=there)
    # The model's prompts are known by name alone here: the one asked for is in the refusal.
    answer = ask(http, 200 if prompt is None else 400, input="a", **body)
    assert prompt is None or f"'{prompt}'" in answer["error"]["message"]


def test_an_object_that_is_no_text_is_refused(http: TestClient, engine: FakeClient) -> None:
    for given in ({"image": "a"}, {"text": 5}, {"text": "a", "image": "b"}, {}):
        assert error_of(http, 400, input=["a", given])["param"] == "input[1]"
    assert engine.submitted == []


def test_jinas_name_of_the_encoding_is_read(http: TestClient) -> None:
    ours = ask(http, input="a", encoding_format="base64")
    extras = {"task": "text-matching", "late_chunking": False, "normalized": True}
    assert ask(http, input="a", embedding_type="base64", **extras) == ours
