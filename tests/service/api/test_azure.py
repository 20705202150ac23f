from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from tests.service.conftest import FakeClient, is_openai_error, make_front

DEPLOYMENT = "/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21"
PATHS = [DEPLOYMENT, "/openai/v1/embeddings", "/openai/v1/embeddings?api-version=preview"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body", [{"input": "a"}, {"input": ["a", "b c"], "encoding_format": "base64", "dimensions": 3}]
)
def test_the_answer_is_that_of_the_openai_route(
    http: TestClient, path: str, body: dict[str, Any]
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 200
    assert answer.json() == http.post("/v1/embeddings", json=body).json()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": 7}, {"input": "a", "model": 7}])
def test_a_malformed_body_is_a_400_in_the_envelope_of_openai(
    http: TestClient, path: str, body: dict[str, Any]
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    assert is_openai_error(answer.json())


@pytest.mark.parametrize(
    ("name", "status"), [("tests/tiny", 200), ("tiny", 200), ("other", 404), ("a/b", 404)]
)
def test_the_deployment_is_the_models_name(engine: FakeClient, name: str, status: int) -> None:
    front = make_front(engine)
    assert front.served is not None
    front.served = dataclasses.replace(front.served, takes_any_name=False)
    with TestClient(create_app(front)) as http:
        path = f"/openai/deployments/{name}/embeddings"
        answer = http.post(path, json={"input": "a", "model": "tests/tiny"})
        assert answer.status_code == status
        assert status == 200 or answer.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"api-key": "secret"}, 200),
        ({"Api-Key": " secret "}, 200),
        ({"api-key": "wrong"}, 401),
        ({"api-key": ""}, 401),
        ({"api-key": "secret", "authorization": "Bearer wrong"}, 401),
        ({"api-key": "wrong", "authorization": "Bearer secret"}, 200),
    ],
)
def test_the_key_may_come_as_azures_header(
    engine: FakeClient, headers: dict[str, str], status: int
) -> None:
    with TestClient(create_app(make_front(engine, api_key="secret"))) as http:
        answer = http.post(DEPLOYMENT, json={"input": "a"}, headers=headers)
    assert answer.status_code == status
    assert status == 200 or is_openai_error(answer.json())


@pytest.mark.parametrize("path", ["/openai/deployments/m/chat/completions", "/openai/other"])
def test_other_paths_of_azure_are_not_there(http: TestClient, path: str) -> None:
    answer = http.post(path, json={})
    assert answer.status_code == 404
    assert is_openai_error(answer.json())
    assert http.get(DEPLOYMENT).status_code == 405
