from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import InputError
from service.tasks.embed import Embed, Normalization, Unscaled, Vector, scale, write_large
from service.tasks.plain_text import SimulatedTokenizer
from tests.service.conftest import FakeClient, make_front


def test_dimensions_that_cannot_be_are_refused_before_the_model_runs(
    http: TestClient, engine: FakeClient
) -> None:
    for path, field, status in (("/embed", "inputs", 422), ("/v1/embeddings", "input", 400)):
        answer = http.post(path, json={field: "a", "dimensions": 9, **_model(path)})
        assert answer.status_code == status
    assert engine.submitted == []


def test_dimensions_of_a_users_own_runner_are_checked_once_it_has_answered(
    engine: FakeClient,
) -> None:
    front = make_front(engine)
    object.__setattr__(front.served, "dimension", None)
    with TestClient(create_app(front)) as http:
        answer = http.post("/embed", json={"inputs": "a", "dimensions": 9})
    assert answer.status_code == 422
    assert len(engine.submitted) == 1


def embedding(normalization: Normalization, **given: Any) -> Embed:
    return Embed(SimulatedTokenizer(), normalization, **given)


RAW = np.float32([3, 0, 4, 12])


def told(raw: Vector) -> Vector:
    """As the worker's head answers: of length 1, with its length behind it."""
    length = np.linalg.norm(raw) or np.float32(1e-12)
    return np.float32([*(raw / length), length])


@pytest.mark.parametrize(
    ("task", "value"), [(embedding("model"), told(RAW)), (embedding("service"), RAW)]
)
def test_vectors_have_length_1_or_the_models_own_with_dimensions_or_without(
    task: Embed, value: Vector
) -> None:
    scaled, unscaled = task.result(value), Unscaled(task).result(value)
    np.testing.assert_allclose(scaled, RAW / 13, rtol=1e-6)
    np.testing.assert_allclose(unscaled, RAW, rtol=1e-6)
    assert scaled.dtype == unscaled.dtype == np.float32
    [cut] = task.shorten([scaled], 3)
    np.testing.assert_allclose(cut, RAW[:3] / 5, rtol=1e-6)
    assert cut.dtype == np.float32
    [cut] = task.shorten([unscaled], 3, normalize=False)
    np.testing.assert_allclose(cut, RAW[:3], rtol=1e-6)


def test_a_vector_of_zeros_stays_one() -> None:
    for task, value in ((embedding("model"), told(0 * RAW)), (embedding("service"), 0 * RAW)):
        for vector in (task.result(value), Unscaled(task).result(value)):
            np.testing.assert_array_equal(vector, 0 * RAW)
            np.testing.assert_array_equal(task.shorten([vector], 2), [[0, 0]])


@pytest.mark.parametrize("size", [1e-30, 1e30, 3e38])
def test_vectors_whose_squares_are_beyond_a_float32_are_scaled(size: float) -> None:
    np.testing.assert_allclose(scale(np.float32([size, size])), [0.5**0.5] * 2, rtol=1e-6)


def test_what_is_simulated_is_as_it_comes_and_scaled_only_as_it_is_cut() -> None:
    task = embedding("never")
    assert task.result(RAW) is RAW
    assert Unscaled(task).result(RAW) is RAW
    np.testing.assert_allclose(task.shorten([RAW], 3), [RAW[:3] / 5], rtol=1e-6)
    np.testing.assert_array_equal(task.shorten([RAW], 3, normalize=False), [RAW[:3]])


def test_the_default_path_copies_nothing() -> None:
    value = told(RAW)
    assert embedding("model").result(value).base is value


def test_dimensions_are_those_that_the_model_was_trained_for_where_it_says_which() -> None:
    task = embedding("model", sizes=(2, 3))
    for wanted in (None, 2, 3, 4):  # 4 is all of it
        task.check_dimensions(wanted, 4)
    for wanted, says in (
        (1, "1 is not among those that the model was trained for: 2, 3"),
        (5, "have 4, fewer than 5"),
    ):
        with pytest.raises(InputError, match=says):
            task.check_dimensions(wanted, 4)
    embedding("model").check_dimensions(1, 4)


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
