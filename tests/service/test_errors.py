from __future__ import annotations

import logging
import math
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from batcher import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    InvalidPayload,
    NotReady,
    Overloaded,
    RunnerFailed,
    WorkerLost,
)
from service.app import create_app
from service.errors import Problem, problem_of
from service.state import AppState
from tests.service.conftest import FakeClient, is_openai_error, is_tei_error, make_front

ROUTES = {
    "/embed": {"inputs": "a"},
    "/v1/embeddings": {"input": "a", "model": "tiny"},
}

OVERLOADED = Overloaded("9 requests wait", retry_after=0.2)
LOST = WorkerLost("worker-0 died (signal 9): Traceback in secret.py")


def is_envelope_of(path: str, body: dict[str, Any]) -> bool:
    return is_openai_error(body) if path.startswith("/v1/") else is_tei_error(body)


def message_of(path: str, body: dict[str, Any]) -> str:
    return str(body["error"]["message"] if path.startswith("/v1/") else body["error"])


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("error", "status", "retry_after", "final"),
    [
        (OVERLOADED, 429, ("1", "200"), False),
        (Overloaded("full", retry_after=2.3456), 429, ("3", "2346"), False),
        (Overloaded("full", retry_after=0.0), 429, ("1", "1"), False),
        (NotReady("loading", retry_after=1.0), 503, ("1", "1000"), False),
        (Draining("ending", retry_after=1.0), 503, ("1", "1000"), False),
        (LOST, 503, ("1", "1000"), False),
        (InvalidPayload("nested too deep"), 422, None, True),
        (RunnerFailed("ValueError: bad"), 500, None, True),
        (DeadlineExceeded("too late"), 504, None, True),
    ],
)
def test_each_engine_error_has_its_status_and_says_when_to_retry(
    http: TestClient,
    engine: FakeClient,
    path: str,
    error: Exception,
    status: int,
    retry_after: tuple[str, str] | None,
    final: bool,
) -> None:
    if status == 422 and path == "/v1/embeddings":
        status = 400  # as OpenAI has it: some of its clients try again after a 422
    engine.error = error
    answer = http.post(path, json=ROUTES[path], headers={"x-request-id": "mine-1"})
    assert answer.status_code == status
    assert is_envelope_of(path, answer.json())
    assert "mine-1" in answer.text
    assert answer.headers["x-request-id"] == "mine-1"
    headers = answer.headers
    given = (headers["retry-after"], headers["retry-after-ms"]) if retry_after else None
    assert given == retry_after
    assert headers.get("x-should-retry") == ("false" if final else None)


def test_every_error_of_the_engine_is_in_the_table() -> None:
    pending, kinds = [BatcherError], set()
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        if not kind.__subclasses__() and kind.__module__.startswith("batcher"):
            kinds.add(kind)
    assert kinds >= {Overloaded, Cancelled, WorkerLost}
    for kind in kinds:
        made: BatcherError = kind.__new__(kind)
        made.args = ("text",)
        made.__dict__["retry_after"] = 1.0
        assert problem_of(made).status in (400, 422, 429, 500, 503, 504)


def test_what_a_dying_worker_wrote_stays_in_the_log(
    http: TestClient, engine: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    engine.error = LOST
    answer = http.post("/embed", json={"inputs": "a"}, headers={"x-request-id": "mine-2"})
    assert "secret" not in answer.text
    assert any("secret" in line and "mine-2" in line for line in caplog.messages)


@pytest.mark.parametrize("path", ROUTES)
def test_a_bug_is_a_500_in_json_with_its_traceback_in_the_log(
    http: TestClient, engine: FakeClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    engine.error = KeyError("of ours")
    answer = http.post(path, json=ROUTES[path])
    assert answer.status_code == 500
    assert is_envelope_of(path, answer.json())
    assert "of ours" not in answer.text
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert answer.headers["x-request-id"] in record.getMessage()


def test_a_bug_behind_starlettes_layers_is_answered_the_same_way(
    http: TestClient, engine: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: FakeClient) -> None:
        raise KeyError("of ours")

    monkeypatch.setattr(FakeClient, "snapshot", broken)
    answer = http.get("/health/ready")
    assert answer.status_code == 500
    assert is_tei_error(answer.json())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
        ("POST", "/embed/", 404),
        ("GET", "/embed", 405),
        ("GET", "/v1/embeddings", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
    ],
)
def test_a_wrong_path_or_method_is_answered_in_the_envelope(
    http: TestClient, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert is_envelope_of(path, answer.json())
    assert ("allow" in answer.headers) == (status == 405)
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b"[]",
        b'"text"',
        b"null",
        b"5",
        b'{"inputs": NaN}',
        b'{"inputs": Infinity}',
        b'{"inputs": 1e999}',
        b'{"inputs": ' + b"9" * 5000 + b"}",
        b'{"inputs": "\\ud800"}',
        b'{"inputs": "\xff"}',
        b"[" * 100_000,
        b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs": "a"} trailing',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", ROUTES)
def test_what_is_no_json_object_is_400(http: TestClient, path: str, body: bytes) -> None:
    answer = http.post(path, content=body)
    assert answer.status_code == 400
    assert is_envelope_of(path, answer.json())
    assert "JSON" in message_of(path, answer.json())
    assert http.post(path, json=ROUTES[path]).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
FIELDS = ["input", "inputs", "model", "truncate", "dimensions", "encoding_format", "normalize"]
BODIES = JSON | st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON, max_size=5)


@pytest.fixture(scope="module")
def shared() -> Any:
    with TestClient(create_app(make_front(FakeClient()))) as http:
        yield http


@pytest.mark.parametrize("path", ROUTES)
@given(body=BODIES)
def test_no_json_makes_the_service_fail(shared: TestClient, path: str, body: Any) -> None:
    if isinstance(body, dict) and "model" in body and isinstance(body["model"], str):
        body = {**body, "model": "tiny"}
    answer = shared.post(path, json=body)
    assert answer.status_code in (200, 400, 404, 422)
    assert answer.status_code == 200 or is_envelope_of(path, answer.json())


@pytest.mark.parametrize("path", ROUTES)
@given(body=st.binary(max_size=200))
def test_no_bytes_make_the_service_fail(shared: TestClient, path: str, body: bytes) -> None:
    answer = shared.post(path, content=body)
    assert answer.status_code in (200, 400)  # now and then they are what the route takes
    assert answer.status_code == 200 or is_envelope_of(path, answer.json())


def test_a_retry_after_is_a_whole_number_of_seconds_and_at_least_one() -> None:
    for wait in (0.0, 0.0001):
        headers = dict(Problem(429, "full", retry_after=wait).headers())
        assert headers[b"retry-after"] == b"1"
        assert headers[b"retry-after-ms"] == b"1"


def test_refused_clients_are_sent_away_for_different_times(
    http: TestClient, front: AppState, engine: FakeClient
) -> None:
    engine.error = Overloaded("full", retry_after=2.0)
    front.jitter = Random(7).random
    waits = []
    for _ in range(200):
        headers = http.post("/embed", json={"inputs": "a"}).headers
        waits.append(int(headers["retry-after-ms"]))
        assert int(headers["retry-after"]) == math.ceil(waits[-1] / 1000)
    assert all(2000 <= wait <= 3000 for wait in waits)
    quarters = Counter((wait - 2000) // 250 for wait in waits)
    assert min(quarters[quarter] for quarter in range(4)) >= 30  # 50 on average


def test_without_a_generator_of_the_tests_the_times_differ_too() -> None:
    problem = Problem(429, "full", retry_after=1000.0)
    assert len({dict(problem.headers())[b"retry-after-ms"] for _ in range(5)}) > 1
