"""Behind a proxy: a path prefix, and callers that are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from starlette.testclient import TestClient

from service.app import check_root_path, create_app
from service.http.proxies import TrustedProxies
from service.settings import BadSetting, Settings
from service.state import AppState
from tests.service.conftest import FakeClient, make_front


@pytest.fixture
def front() -> AppState:
    return make_front(FakeClient(), root_path="/models/embed/", api_key="secret")


@pytest.fixture
def prefixed(front: AppState) -> Iterator[TestClient]:
    with TestClient(create_app(front), headers={"Authorization": "Bearer secret"}) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", "/models/embed"])
def test_a_request_is_served_with_the_prefix_and_without(prefixed: TestClient, prefix: str) -> None:
    sent = prefixed.post(f"{prefix}/embed", json={"inputs": "a"})
    assert sent.json() == prefixed.post("/embed", json={"inputs": "a"}).json()
    assert prefixed.get(f"{prefix}/v1/models/tests/tiny").json()["id"] == "tests/tiny"
    document = prefixed.get(f"{prefix}/openapi.json").json()
    assert document["servers"] == [{"url": "/models/embed"}]
    assert "/embed" in document["paths"]
    assert prefixed.get(f"{prefix}/docs").status_code == 200
    # Open paths stay open, others need the key.
    assert prefixed.get(f"{prefix}/health", headers={"Authorization": ""}).status_code == 200
    assert prefixed.get(f"{prefix}/stats", headers={"Authorization": ""}).status_code == 401


def test_the_metrics_know_the_route_without_its_prefix(
    prefixed: TestClient, front: AppState
) -> None:
    prefixed.get("/models/embed/health/live")
    assert ("/health/live", "ok") in front.tally.counts()


@pytest.mark.parametrize(
    "path", ["/models/embedembed", "/model", "/models/embed/models/embed/embed"]
)
def test_what_only_looks_like_the_prefix_is_none(prefixed: TestClient, path: str) -> None:
    assert prefixed.post(path, json={"inputs": "a"}).status_code == 404


@pytest.mark.parametrize("prefix", ["/v1", "/embed", "/health"])
def test_a_prefix_that_is_the_beginning_of_a_route_is_refused(prefix: str) -> None:
    with pytest.raises(BadSetting, match=rf"BATCHER_ROOT_PATH='{prefix}': .* a route {prefix}"):
        check_root_path(Settings(root_path=prefix))
    check_root_path(Settings(root_path="/embedder"))
    check_root_path(Settings())


PROXIES = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # Nobody but a trusted proxy is believed.
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        # What the client itself wrote is to the left of its own address.
        ("10.0.0.1", ["10.9.9.9, 1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.7", " 10.0.0.2 "], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # In every form that proxies write.
        ("::ffff:10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("fd00::1", ["2001:DB8:0::7"], "2001:db8::7"),
        ("10.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        # What is no address ends the list.
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%\x9b31mred"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7, evil, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.7,,"], "10.0.0.1"),
        ("10.0.0.1", ["1" * 60_000], "10.0.0.1"),
        ("10.0.0.1", ["\xff\x00[", "]"], "10.0.0.1"),
        ("10.0.0.1", ["[]:80"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2," * 6000 + "10.0.0.3"], "10.0.0.2"),
        ("no address", ["203.0.113.7"], "no address"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_the_client_is_the_right_most_address_that_is_no_proxys(
    peer: str, forwarded: list[str], client: str
) -> None:
    headers = [(b"x-forwarded-for", each.encode("latin-1")) for each in forwarded]
    assert PROXIES.client(peer, [(b"host", b"x"), *headers]) == client


def test_whoever_connects_by_the_unix_socket_can_be_trusted() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.7")]
    assert TrustedProxies([], unix=True).client("", headers) == "203.0.113.7"
    assert TrustedProxies([], unix=True).client("10.0.0.1", headers) == "10.0.0.1"
    assert Settings(trusted_proxies="10.0.0.1, unix").trusts_unix_socket
    assert not Settings(trusted_proxies="10.0.0.1").trusts_unix_socket


@pytest.mark.parametrize(("trusted", "caller"), [("127.0.0.0/8, ::1", "203.0.113.7"), (None, "")])
def test_callers_behind_a_proxy_have_a_share_and_a_log_line_each(
    trusted: str | None, caller: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine = FakeClient()
    app = create_app(make_front(engine, trusted_proxies=trusted))
    headers = {"X-Forwarded-For": "1.1.1.1, 203.0.113.7"}
    with TestClient(app, client=("127.0.0.1", 5000), headers=headers) as http:
        http.post("/embed", json={"inputs": "a"})
        http.post("/embed", json={"inputs": []})
    assert engine.last.caller == (caller or "127.0.0.1")
    assert f"(client {caller or '127.0.0.1'}, " in caplog.text
