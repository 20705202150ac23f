"""Equal inputs over HTTP: run once, kept if that is asked for, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from batcher import Engine
from service.app import create_app
from service.settings import Settings
from tests.fakes import GatedRunner
from tests.service.conftest import make_front, vector_of
from tests.service.observability.test_prometheus import samples

SAME = {"inputs": "the same"}


class Vectors(GatedRunner):
    def run(self, payloads: Any) -> Any:
        return [vector_of(text) for text in super().run(payloads)]


@contextmanager
def serving(runner: Vectors, **settings: Any) -> Iterator[TestClient]:
    engine = Engine(runner, isolation="thread", limits=Settings(**settings).limits)
    front = make_front(engine, engine._clock, **settings)
    with TestClient(create_app(front)) as http:
        assert http.portal is not None
        http.portal.call(engine.start)
        try:
            yield http
        finally:
            runner.release(10)
            http.portal.call(engine.close)


def vector_in(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return np.float32(answer.json()[0])


def test_equal_inputs_of_one_request_are_run_once() -> None:
    runner = Vectors()
    runner.release()
    with serving(runner) as http:
        answer = http.post("/embed", json={"inputs": ["a", "b", "a", "a"]}).json()
        found = samples(http.get("/metrics").text)
    assert runner.batches == [["a", "b"]]
    np.testing.assert_array_equal(np.float32(answer), [vector_of(text) for text in "abaa"])
    assert found["batcher_inputs_shared_total"] == 2
    assert found['batcher_inputs_total{outcome="ok"}'] == 4


def test_they_are_run_each_for_itself_where_that_is_asked_for() -> None:
    runner = Vectors()
    runner.release()
    with serving(runner, share_equal=False) as http:
        http.post("/embed", json={"inputs": ["a", "a"]})
        assert samples(http.get("/metrics").text)["batcher_inputs_shared_total"] == 0
    assert runner.batches == [["a", "a"]]


def test_an_answer_that_is_kept_is_given_again_without_a_run() -> None:
    runner = Vectors()
    runner.release()
    with serving(runner, cache_bytes=1 << 20) as http:
        first, again = [http.post("/embed", json=SAME) for _ in range(2)]
        found = samples(http.get("/metrics").text)
    np.testing.assert_array_equal(vector_in(again), vector_in(first))
    assert runner.batches == [["the same"]]
    assert found["batcher_inputs_cached_total"] == 1
    assert "reason=cache" in again.headers["server-timing"]


def test_no_answer_is_kept_unless_that_is_asked_for() -> None:
    runner = Vectors()
    runner.release(2)
    with serving(runner) as http:
        for _ in range(2):
            vector_in(http.post("/embed", json=SAME))
        batches = http.get("/stats/batches").json()
    assert runner.batches == [["the same"]] * 2
    assert [(batch["size"], batch["requests"], batch["reason"]) for batch in batches] == [
        (1, 1, "idle")
    ] * 2
