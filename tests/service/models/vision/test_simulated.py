"""The simulated accelerator as a model that sees, over HTTP and alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.models.config import SimulatedConfig
from service.models.simulated import SimulatedFault, answers
from service.models.vision.simulated import SimulatedVision, text_of
from service.processes.build import _serve_model
from service.settings import Settings
from tests.service.conftest import FakeClient, make_front
from tests.service.tiny_images import PICTURES, data_uri, drill, encoded

PIXELS = [np.asarray(each) for each in PICTURES]
QUICK = SimulatedConfig(0, 0, 0)


@pytest.mark.parametrize(("task", "width"), [("image-classify", 3), ("image-embed", 9)])
def test_equal_pixels_get_equal_answers(task: str, width: int) -> None:
    runner = SimulatedVision(QUICK, task)
    got = np.asarray(runner.run([*PIXELS, PIXELS[0].copy()]))
    assert got.shape == (len(PIXELS) + 1, width)
    np.testing.assert_array_equal(got[0], got[-1])
    assert len({row.tobytes() for row in got}) == len(PIXELS)
    assert ("logit_scale" in runner.warm_up()) == (task == "image-embed")


def test_a_text_is_answered_as_ever() -> None:
    got = np.asarray(SimulatedVision(QUICK, "image-embed").run(["a text", PIXELS[0]]))
    np.testing.assert_allclose(got[0, :8] * got[0, 8], answers(["a text"])[0], rtol=1e-6)


@pytest.mark.parametrize("task", ["image-classify", "image-embed"])
def test_an_image_may_ask_for_a_drill(task: str) -> None:
    engine = FakeClient()
    front = make_front(engine)
    front.served = _serve_model(Settings(runner="simulated", task=task))  # type: ignore[arg-type]  # as parametrized
    width = 3 if task == "image-classify" else 8
    engine.answer = lambda payload: np.ones(width, np.float32)
    with TestClient(create_app(front)) as client:
        assert client.post("/", content=drill("fault:raise")).status_code == 200
        assert client.post("/", content=encoded(PICTURES[1])).status_code == 200
    asked, plain = (each.payloads[0] for each in engine.submitted)
    assert text_of(asked) == "fault:raise"
    with pytest.raises(SimulatedFault):
        SimulatedVision(QUICK, task).run([plain, asked])
    bad: Any = SimulatedVision(QUICK, task).run([plain])
    assert len(bad) == 1


def test_a_simulated_model_of_images_and_texts_takes_both() -> None:
    engine = FakeClient()
    front = make_front(engine)
    front.served = _serve_model(Settings(runner="simulated", task="image-embed"))
    with TestClient(create_app(front)) as client:
        given = ["a text", data_uri(encoded(PICTURES[0]))]
        assert client.post("/embed", json={"inputs": given}).status_code == 200
    assert engine.last.payloads[0] == "a text"
    assert engine.last.costs == [2, 1]
    assert front.model().canary().payload.shape == (16, 16, 3)
