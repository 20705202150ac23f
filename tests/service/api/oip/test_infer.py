"""POST /v2/models/{model}/infer: tensors in, tensors out."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.api.oip.conftest import (
    HEADER,
    Model,
    answer_of,
    packed,
    tensors,
    texts,
    with_binary,
)
from tests.service.conftest import FakeClient, vector_of

INFER = "/v2/models/tests/tiny/infer"
# As tritonclient.http 2.73.0 and KServe's client 0.21.0 send it.
RECORDED = json.loads(Path(__file__).with_name("recorded_tensors.json").read_text("utf-8"))


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["name"])
def test_what_clients_send_is_answered(
    recorded: dict[str, Any], model: Model, engine: FakeClient
) -> None:
    body = base64.b64decode(recorded["body"])
    task = recorded["task"]
    with model(task) as http:
        answer = http.post(recorded["path"], content=body, headers=recorded["headers"])
    assert answer.status_code == 200, answer.text
    assert "server-timing" in answer.headers
    found = tensors(answer)
    payloads = engine.last.payloads
    assert len(payloads) == 2
    if task in ("embed", "ids"):
        wanted = np.stack([vector_of(each) for each in payloads])
        np.testing.assert_allclose(found["embedding"], wanted, rtol=1e-6)
    if task == "embed":
        assert payloads == ["hello", "a second text"]
    if task == "ids":
        assert payloads == ["5 6 7", "8"]
    if task == "score":
        logits = np.stack([answer_of(task, each) for each in payloads])
        np.testing.assert_allclose(found["scores"], 1 / (1 + np.exp(-logits)), rtol=1e-6)
        assert all("hello" in each for each in payloads)
    if task == "classify":
        logits = np.stack([answer_of(task, each) for each in payloads])
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        best = logits.argmax(axis=1)
        assert found["label"] == [b"LABEL_%d" % place for place in best]
        firsts = found["scores"][::2]
        assert firsts == [
            b"%.6f:%d:LABEL_%d" % (row[place], place, place)
            for row, place in zip(scores, best, strict=True)
        ]
        assert len(found["scores"]) == 4
    offered = recorded["headers"].get("Accept-Encoding")
    coding = offered if offered in ("gzip", "deflate") else None
    assert answer.headers.get("content-encoding") == coding
    assert (HEADER.lower() in answer.headers) == recorded["is_binary"]
    if recorded["name"].endswith("timeout"):
        assert (engine.last.priority, engine.last.deadline) == (0, pytest.approx(1025, abs=3))
    assert (b'"id":"7"' in answer.content) == (b'"id":"7"' in body)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"shape": [], "data": ["a"]}, ["a"]),  # as KServe's own tests send it
        ({"shape": [2, 1], "data": [["a"], ["b"]]}, ["a", "b"]),
        ({"shape": [2.0], "data": [["a", "b"]]}, ["a", "b"]),
        ({"shape": [1], "data": [""]}, [""]),
    ],
)
def test_a_row_of_the_first_dimension_is_an_input(
    http: TestClient, engine: FakeClient, given: Any, wanted: list[str]
) -> None:
    tensor = {"name": "text", "datatype": "BYTES", **given}
    answer = http.post(INFER, json={"inputs": [tensor], "outputs": []})
    assert answer.status_code == 200, answer.text
    assert engine.last.payloads == wanted
    told = answer.json()
    assert set(told) == {"model_name", "model_version", "outputs"}
    assert (told["model_name"], told["model_version"]) == ("tests/tiny", "1")
    assert told["outputs"][0]["shape"] == [len(wanted), 8]


def test_a_body_may_be_nothing_but_a_tensor(http: TestClient, engine: FakeClient) -> None:
    answer = http.post(INFER, content="{été".encode(), headers={HEADER: "0"})
    assert engine.last.payloads == ["{été"]
    np.testing.assert_allclose(tensors(answer)["embedding"], [vector_of("{été")], rtol=1e-6)
    assert HEADER.lower() in answer.headers
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_large_request_is_read_and_answered_like_a_small_one(
    http: TestClient, engine: FakeClient
) -> None:
    words = [f"word{place} " * 8 for place in range(2000)]
    answer = http.post(INFER, json={"inputs": [texts(*words)]})
    asked = with_binary(
        {
            "inputs": [
                {
                    "name": "text",
                    "datatype": "BYTES",
                    "shape": [2000],
                    "parameters": {"binary_data_size": len(packed(*map(str.encode, words)))},
                }
            ],
            "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}],
        },
        packed(*map(str.encode, words)),
    )
    again = http.post(INFER, **asked)
    assert [each.payloads for each in engine.submitted] == [words, words]
    np.testing.assert_allclose(tensors(answer)["embedding"], tensors(again)["embedding"], rtol=1e-6)
    asked["headers"]["Accept-Encoding"] = "deflate"
    packed_answer = http.post(INFER, **asked)
    assert packed_answer.headers["content-encoding"] == "deflate"
    np.testing.assert_array_equal(tensors(packed_answer)["embedding"], tensors(again)["embedding"])


@pytest.mark.parametrize("offered", ["gzip, deflate, br", "gzip;q=0", "identity", "br"])
def test_what_an_http_library_offers_by_itself_compresses_no_answer(
    http: TestClient, offered: str
) -> None:
    headers = {"Accept-Encoding": offered}
    answer = http.post(INFER, json={"inputs": [texts("a")]}, headers=headers)
    assert "content-encoding" not in answer.headers


def test_words_of_a_sparse_vector_are_padded_to_the_longest(
    model: Model, engine: FakeClient
) -> None:
    with model("sparse") as http:
        found = tensors(http.post(INFER, json={"inputs": [texts("a", "abc")]}))
    assert found["indices"].tolist() == [[0, 3, -1, -1], [0, 3, 6, 9]]
    np.testing.assert_allclose(found["values"][0], [1, 2, 0, 0])


def test_a_classifier_takes_pairs_and_a_reranker_a_query_for_each_document(
    model: Model, engine: FakeClient
) -> None:
    pair = [texts("a", "b"), texts("c", "d", name="text_pair")]
    with model("classify") as http:
        raw = {"inputs": pair, "parameters": {"raw_scores": True}}
        found = tensors(http.post(INFER, json=raw))
        payloads = engine.last.payloads
        assert [each.split("\x1f") for each in payloads] == [["c", "a"], ["d", "b"]]
        wanted = np.stack([answer_of("classify", each) for each in payloads])
        np.testing.assert_allclose(found["scores"], wanted, rtol=1e-6)
    both = [texts("p", "q", name="query"), texts("d", "e", name="documents")]
    with model("score") as http:
        answer = http.post(INFER, json={"inputs": both, "parameters": {"raw_scores": True}})
        payloads = engine.last.payloads
        assert [each.split("\x1f") for each in payloads] == [["d", "p"], ["e", "q"]]
        wanted = np.stack([answer_of("score", each) for each in payloads])
        np.testing.assert_allclose(tensors(answer)["scores"], wanted, rtol=1e-6)
        queries = [texts("p", "q", "r", name="query"), texts("d", "e", name="documents")]
        answer = http.post(INFER, json={"inputs": queries})
        assert (answer.status_code, answer.json()["error"]) == (
            400,
            "query: has 3 rows, and documents has 2",
        )


@pytest.mark.parametrize(
    ("priority", "headers", "wanted"),
    [(None, "u=1", 1), (0, "u=1", 1), (1, "u=5", 0), (4, "", 3), (8, "", 7), (2**40, "", 7)],
)
def test_priority_1_is_soonest_and_0_is_none(
    http: TestClient, engine: FakeClient, priority: int | None, headers: str, wanted: int
) -> None:
    body = {"inputs": [texts("a")], "parameters": {"priority": priority}}
    answer = http.post(INFER, json=body, headers={"Priority": headers} if headers else {})
    assert answer.status_code == 200
    assert engine.last.priority == wanted


@pytest.mark.parametrize(
    ("timeout", "header", "seconds"),
    [
        (None, "", 30),
        (0, "", 30),
        (2_000_000, "", 2),
        (60_000_000, "", 60),
        (60_000_000, "5000", 5),
        (2_000_000, "5000", 2),
        (2**60, "", 3600),
    ],
)
def test_the_shorter_timeout_counts(
    http: TestClient, engine: FakeClient, timeout: int | None, header: str, seconds: int
) -> None:
    body = {"inputs": [texts("a")], "parameters": {"timeout": timeout}}
    headers = {"X-Request-Timeout-Ms": header} if header else {}
    assert http.post(INFER, json=body, headers=headers).status_code == 200
    assert engine.last.deadline - 1000 == pytest.approx(seconds, rel=0.1)


def test_vectors_are_cut_and_left_as_they_are_where_that_is_asked(
    model: Model, engine: FakeClient
) -> None:
    with model("embed") as http:
        body = {"inputs": [texts("a")], "parameters": {"dimensions": 3}}
        [cut] = tensors(http.post(INFER, json=body))["embedding"]
    wanted = vector_of("a")[:3]
    np.testing.assert_allclose(cut, wanted / np.linalg.norm(wanted), rtol=1e-6)
    assert np.linalg.norm(cut) == pytest.approx(1)


def test_a_texts_limit_is_kept_or_refused(http: TestClient, engine: FakeClient) -> None:
    long = " ".join(map(str, range(20)))
    assert http.post(INFER, json={"inputs": [texts(long)]}).status_code == 200
    assert len(engine.last.payloads[0].split()) == 16
    body = {"inputs": [texts("a", long)], "parameters": {"truncate": False}}
    answer = http.post(INFER, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "text[1]: the input has 20 tokens, the limit is 16"


def test_gzip_of_an_answer_is_that_of_its_json(http: TestClient) -> None:
    body = {"inputs": [texts("a")]}
    plain = http.post(INFER, json=body).json()
    request = http.build_request("POST", INFER, json=body, headers={"Accept-Encoding": "gzip"})
    answer = http.send(request, stream=True)
    raw = b"".join(answer.iter_raw())
    assert json.loads(zlib.decompress(raw, 31)) == plain
