"""A path or method that no route has, and OPTIONS without cross-origin calls."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from tests.service.conftest import FakeClient, is_openai_error, is_tei_error, make_front

OPENAI = {"x-stainless-lang": "python"}


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/embeddings", "POST /v1/embeddings"),
        ("/v1/embeddings/", "POST /v1/embeddings"),
        ("/v1/embeddings/embeddings", "POST /v1/embeddings"),
        ("//v1//models", "GET /v1/models"),
        ("/v1/embedings", "POST /v1/embeddings"),
        ("/api/similarity", "POST /similarity"),
        ("/Embed", "POST /embed"),
        ("/HEALTH", "GET /health"),
        ("/metric", "GET /metrics"),
    ],
)
def test_a_404_names_the_route_that_was_probably_meant(
    http: TestClient, path: str, meant: str
) -> None:
    answer = http.post(f"http://testserver{path}", json={})
    assert answer.status_code == 404
    assert f"did you mean {meant}?" in answer.text
    assert is_openai_error(answer.json()) == ("/v1/" in meant)


@pytest.mark.parametrize("path", ["/xyz", "/", "/v3", "/" + "a" * 8000, "/embed" + "/x" * 3000])
def test_a_path_like_no_route_says_where_all_are_listed(http: TestClient, path: str) -> None:
    answer = http.put(path) if path == "/" else http.get(path)
    assert (answer.status_code, "did you mean" in answer.text) in [(404, False), (405, False)]
    assert path == "/" or "GET /openapi.json" in answer.json()["error"]
    assert len(answer.content) < 300


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/generate", "/chat/completions"])
def test_a_client_that_wants_text_is_told_that_none_is_generated(
    http: TestClient, path: str
) -> None:
    assert "models that generate text are not served here" in http.post(path, json={}).text


def test_an_openai_client_gets_its_own_envelope_on_any_path(http: TestClient) -> None:
    assert is_openai_error(http.post("/chat/completions", headers=OPENAI, json={}).json())
    assert is_openai_error(http.post("/xyz", headers=OPENAI, json={}).json())
    assert is_tei_error(http.post("/xyz", json={}).json())
    assert is_tei_error(http.post("/embed", headers=OPENAI, json={}).json())  # a route's own wins


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/embed", {"POST"}),
        ("/v1/models", {"GET", "HEAD"}),
        ("/v1/models/tests/tiny", {"GET", "HEAD"}),
        ("/health", {"GET", "HEAD"}),
        ("/v2/models/tests/tiny/infer", {"POST"}),
        ("/v2/models/tests/tiny/trace/setting", {"GET", "HEAD", "POST"}),
    ],
)
def test_options_says_what_a_route_takes(http: TestClient, path: str, methods: set[str]) -> None:
    answer = http.options(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert set(answer.headers["allow"].split(", ")) == methods | {"OPTIONS"}
    assert "content-length" not in answer.headers
    assert answer.headers["x-request-id"]
    wrong = http.delete(path)
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == answer.headers["allow"]
    assert wrong.headers["allow"] in wrong.text


def test_options_needs_no_key_and_opens_no_route() -> None:
    """A proxy that adds the headers for browsers passes a preflight on, which has no key."""
    client = TestClient(create_app(make_front(FakeClient(), api_key="secret")))
    assert client.options("/embed").status_code == 204
    assert client.options("/xyz").status_code == 404
    assert client.delete("/embed").status_code == 401
