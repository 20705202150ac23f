"""A refused client comes back when it was told to, and is served: the real client, the real engine,
no network between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from batcher import Engine, Limits
from service.app import create_app
from tests.fakes import GatedRunner
from tests.service.conftest import make_front


class Vectors(GatedRunner):
    def run(self, payloads: Any) -> Any:
        return [np.full(8, len(text), np.float32) for text in super().run(payloads)]


@pytest.fixture
def runner() -> Vectors:
    return Vectors()


@pytest.fixture
def full(runner: Vectors) -> Iterator[TestClient]:
    """A service that runs one request, has another one waiting, and has room for no more."""
    engine = Engine(runner, isolation="thread", limits=Limits(max_batch_size=1, max_queue_size=1))
    front = make_front(engine, engine._clock)
    with TestClient(create_app(front)) as http:
        assert http.portal is not None
        http.portal.call(engine.start)
        others = []
        for text in ("running", "waiting"):
            others.append(http.portal.start_task_soon(engine.submit, text))
            if text == "running":
                runner.started.wait()
        try:
            yield http
        finally:
            runner.release(10)
            for other in others:
                other.result(10)
            http.portal.call(engine.close)


def test_the_openai_client_waits_as_long_as_it_was_told_and_is_served_then(
    full: TestClient, runner: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    told: list[float] = []
    slept: list[float] = []

    def hear(response: Any) -> None:
        statuses.append(response.status_code)
        if response.status_code == 429:
            assert int(response.headers["retry-after"]) >= 1
            told.append(int(response.headers["retry-after-ms"]) / 1000)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:  # time passes: both of the others are answered
            runner.release(3)
            runner.started.wait()

    full.event_hooks = {"response": [hear]}
    monkeypatch.setattr("openai._base_client.time.sleep", sleep)
    client = openai.OpenAI(
        base_url="http://testserver/v1", api_key="none", max_retries=3, http_client=full
    )
    answer = client.embeddings.create(model="tiny", input="mine", encoding_format="float")
    assert answer.data[0].embedding == [4.0] * 8
    assert statuses == [429, 429, 200]
    assert slept == told
    assert all(wait > 0 for wait in told)
