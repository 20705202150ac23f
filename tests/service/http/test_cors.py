"""Calls from the pages of other origins."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from tests.service.conftest import FakeClient, make_front
from tests.service.loopback import CHUNKED, run, serving

PAGE = "https://app.example.com"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}


def site(**settings: str) -> TestClient:
    return TestClient(create_app(make_front(FakeClient(), **settings)))


@pytest.fixture
def one_origin() -> TestClient:
    return site(cors_origins=f"{PAGE}, https://Other.example.com:443", api_key="secret")


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/v1/models/x", "/health", "/no"])
def test_a_preflight_is_answered_on_every_path_without_a_key(
    one_origin: TestClient, path: str
) -> None:
    wanted = "authorization,content-type,x-stainless-lang"
    asked = {**PREFLIGHT, "Access-Control-Request-Headers": wanted}
    answer = one_origin.options(path, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == wanted
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/v1/models", "secret", 200),
        ("GET", "/v1/models", "wrong", 401),
        ("GET", "/no", "secret", 404),
        ("POST", "/embed", "secret", 400),
        ("DELETE", "/embed", "secret", 405),
    ],
)
def test_a_page_of_an_allowed_origin_can_read_every_answer(
    one_origin: TestClient, method: str, path: str, key: str, status: int
) -> None:
    headers = {"Origin": PAGE, "Authorization": f"Bearer {key}"}
    answer = one_origin.request(method, path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in answer.headers["vary"]
    exposed = answer.headers["access-control-expose-headers"]
    assert {"X-Request-Id", "Retry-After", "Server-Timing"} <= set(exposed.split(", "))


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "*", f"{PAGE}.evil.com"])
def test_another_origin_is_not_allowed(one_origin: TestClient, origin: str) -> None:
    answer = one_origin.options("/embed", headers={**PREFLIGHT, "Origin": origin})
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    answer = one_origin.get("/health/live", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers


def test_a_default_port_is_left_out_as_browsers_do(one_origin: TestClient) -> None:
    answer = one_origin.get("/health/live", headers={"Origin": "https://other.example.com"})
    assert answer.headers["access-control-allow-origin"] == "https://other.example.com"


def test_any_origin_is_allowed_without_credentials() -> None:
    answer = site(cors_origins="*").get("/health/live", headers={"Origin": PAGE, "Cookie": "a=b"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("allowed", "origin", "answered"),
    [
        ("*", PAGE, "*"),
        (PAGE, "https://evil.example.com", PAGE),
        (f"{PAGE},https://b.example.com", "https://b.example.com", "https://b.example.com"),
        (f"{PAGE},https://b.example.com", "https://evil.example.com", None),
        (None, PAGE, None),
    ],
)
def test_a_page_can_read_what_the_edge_refuses(
    allowed: str | None, origin: str, answered: str | None
) -> None:
    async def main() -> None:
        async with serving(cors_origins=allowed) as site:
            of_page = f"Origin: {origin}\r\nHost: a\r\n".encode()
            for sent in (
                b"POST /embed HTTP/1.1\r\n" + of_page + b"Expect: magic\r\n\r\n",  # the head
                b"POST /embed HTTP/1.1\r\n" + of_page + b"Bad\x00: x\r\n\r\n",  # within it
                CHUNKED.replace(b"Host: a\r\n", of_page) + b"zz\r\n",  # the body
            ):
                reply = await site.ask(sent)
                assert reply.status in (400, 417)
                assert reply.headers.get("access-control-allow-origin") == answered
                exposed = reply.headers.get("access-control-expose-headers", "")
                assert ("X-Request-Id" in exposed) is (answered is not None)

    run(main())


def test_without_origins_nothing_is_allowed() -> None:
    answer = site().get("/health/live", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith(("access-control", "vary"))]
