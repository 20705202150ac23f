"""Behind a proxy: a path prefix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from service.app import check_root_path, create_app
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
    "path", ["/models/embedembed", "/models", "/models/embed/models/embed/embed"]
)
def test_what_only_looks_like_the_prefix_is_none(prefixed: TestClient, path: str) -> None:
    assert prefixed.post(path, json={"inputs": "a"}).status_code == 404


@pytest.mark.parametrize("prefix", ["/v1", "/embed", "/health"])
def test_a_prefix_that_is_the_beginning_of_a_route_is_refused(prefix: str) -> None:
    with pytest.raises(BadSetting, match=rf"BATCHER_ROOT_PATH='{prefix}': .* a route {prefix}"):
        check_root_path(Settings(root_path=prefix))
    check_root_path(Settings(root_path="/embedder"))
    check_root_path(Settings())
