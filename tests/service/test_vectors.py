from __future__ import annotations

from starlette.testclient import TestClient

from service.app import create_app
from tests.service.conftest import FakeClient, make_front


def test_dimensions_that_cannot_be_are_refused_before_the_model_runs(
    http: TestClient, engine: FakeClient
) -> None:
    for path, field in (("/embed", "inputs"), ("/v1/embeddings", "input")):
        answer = http.post(path, json={field: "a", "dimensions": 9, **_model(path)})
        assert answer.status_code == 400
    assert engine.submitted == []


def test_dimensions_of_a_users_own_runner_are_checked_once_it_has_answered(
    engine: FakeClient,
) -> None:
    front = make_front(engine)
    object.__setattr__(front.served, "dimension", None)
    with TestClient(create_app(front)) as http:
        answer = http.post("/embed", json={"inputs": "a", "dimensions": 9})
    assert answer.status_code == 400
    assert len(engine.submitted) == 1


def _model(path: str) -> dict[str, str]:
    return {"model": "tiny"} if path.startswith("/v1/") else {}
