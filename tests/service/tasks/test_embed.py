from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.tasks.embed import write_large
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


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_what_is_written_in_pieces_is_whole_and_lets_others_in_between(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tasks.embed.LARGE", 8)
    made = [np.full(4, place, np.float32) for place in range(count)]  # two of them are a piece
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> bytes:
        others = asyncio.create_task(other())
        written = await write_large(made, lambda place, vector: [place, vector.sum()])
        others.cancel()
        return written

    assert json.loads(asyncio.run(main())) == [[place, 4.0 * place] for place in range(count)]
    assert turns == (count + 1) // 2 - 1
