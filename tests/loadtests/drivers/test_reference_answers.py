"""Claims about how one text asks each task, and what a drill knows of the right answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from loadtests.drivers.reference_answers import ASKS, EMBED
from service.app import create_app
from service.models.config import SimulatedConfig
from service.models.simulated import SimulatedRunner
from service.models.vision.simulated import SimulatedVision
from service.processes.build import _serve_model
from service.settings import Settings
from tests.service.conftest import FakeClient, make_front

CONFIG = SimulatedConfig(0.0, 0.0, 0.0)


@pytest.mark.parametrize("task", ASKS)
def test_the_answer_to_a_text_is_its_own(task: str) -> None:
    ask = ASKS[task]
    runner = (SimulatedVision if task.startswith("image") else SimulatedRunner)(CONFIG, task)
    front = make_front(FakeClient(answer=lambda payload: runner.run([payload])[0]))
    front.served = _serve_model(Settings(runner="simulated", task=task, model="simulated"))  # type: ignore[arg-type]  # as typed
    with TestClient(create_app(front)) as http:
        answers = [http.post(ask.path, json=ask.body(text)) for text in ("one", "two three")]
        assert [each.status_code for each in answers] == [200, 200], answers[0].text
        for text, answer in zip(("one", "two three"), answers, strict=True):
            vector, expected = ask.vector(answer.json()), ask.expected(text)
            assert vector is not None
            scaled = expected / np.linalg.norm(expected)
            assert any(np.allclose(vector, each, atol=1e-6) for each in (expected, scaled))
        assert not np.allclose(ask.expected("one"), ask.expected("two three"))


def test_what_holds_no_numbers_has_no_vector() -> None:
    for told in (None, {}, [], "no", [["a"]], [[float("nan")]], json.loads("[[[1]]]")):
        assert EMBED.vector(told) is None
