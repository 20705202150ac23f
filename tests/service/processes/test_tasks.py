"""Each task on a real server, with two frontends in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.models.config import SimulatedConfig
from service.models.vision.simulated import SimulatedVision
from tests.service.processes.test_server import Server
from tests.service.tiny import make_classifier, read_spec
from tests.service.tiny_images import PICTURES, drill, encoded

TEXTS = [["one"], ["two three", "four"], ["five " * 30, "one"]]
VALUES = [1, 1.0, True, None, "text", [1, [2.5, "a"]], {"a": {"b": [None, 2**60]}}, -0.5, []]


@pytest.fixture(scope="module")
def function() -> Iterator[Server]:
    with Server("--runner", "tests.service.runners:described", "--frontends", "2") as server:
        yield server
        assert server.end() == 0


def predict(server: Server, inputs: list[Any]) -> Any:
    return server.http.post("/v1/predict", json={"inputs": inputs})


def test_any_json_reaches_a_function_as_it_was_sent(function: Server) -> None:
    answer = predict(function, VALUES)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"outputs": [{"got": one, "as": repr(one)} for one in VALUES]}
    assert "inference;dur=" in answer.headers["server-timing"]


def test_json_that_is_nested_too_deep_is_the_callers_fault(function: Server) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    answer = predict(function, ["good", deep])
    assert answer.status_code == 422
    assert "nested too deep" in answer.json()["error"]["message"]


def test_what_a_function_raises_or_cannot_be_written_is_its_own_calls_failure(
    function: Server,
) -> None:
    for bad in ("raise", "object"):
        assert predict(function, [bad]).status_code == 500
        assert predict(function, ["good"]).status_code == 200


def test_a_function_answers_no_vectors_unless_it_is_told_to(function: Server) -> None:
    answer = function.http.post("/embed", json={"inputs": "a"})
    assert answer.status_code == 424
    assert "use POST /v1/predict" in answer.json()["error"]
    assert "runs on   tests.service.runners:described" in function.banner
    assert "/v1/predict -H" in function.banner


def test_readmes_class_is_served() -> None:
    """With one frontend."""
    with Server("--runner", "tests.service.runners:Upper") as server:
        assert predict(server, ["up", "and up"]).json() == {"outputs": ["UP", "AND UP"]}
        refused = server.http.post("/embed", json={"inputs": "up"})
        assert refused.status_code == 424
        assert refused.headers["x-should-retry"] == "false"
        assert "is not an embedding model: use POST /v1/predict" in refused.json()["error"]
        assert "runs on   tests.service.runners:Upper" in server.banner
        assert "?" not in server.banner
        assert server.end() == 0


def test_a_models_stages_are_the_same_for_frontends_in_other_processes() -> None:
    flags = ("--runner", "tests.service.models.own.models:Doubles", "--cpu-workers", "1")
    with Server(*flags, "--frontends", "2") as server:
        answer = predict(server, ["1 2", "3"])
        assert answer.json() == {
            "outputs": [{"doubled": [2.0, 4.0], "batch": 2}, {"doubled": [6.0], "batch": 1}]
        }
        assert "preprocess;dur=" in answer.headers["server-timing"]
        headers = {"content-type": "image/svg+xml"}
        drawn = server.http.post("/v1/predict", content=b"8", headers=headers)
        assert (drawn.content, drawn.headers["content-type"]) == (b"<eight/>", "image/svg+xml")
        statuses = {one: predict(server, [one]).status_code for one in ("bad", "7", "raise", "13")}
        assert statuses == {"bad": 422, "7": 422, "raise": 500, "13": 500}
        metrics = server.http.get("/metrics").text
        assert 'batcher_stage_inputs_total{outcome="ok",stage="postprocess"} 3.0' in metrics
        assert 'batcher_cpu_worker_up{worker="0"} 1.0' in metrics
        stats = server.http.get("/stats").json()
        assert stats["stages"]["preprocess"]["ok"] == 5
        assert [worker["facts"]["model"] for worker in stats["cpu_workers"]] == [flags[1]]
        assert server.end() == 0


def expected(folder: Path) -> list[dict[str, float]]:
    """What the reference library makes of TEXTS."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = []
    for texts in TEXTS:
        inputs = tokenizer(
            *texts,
            truncation=True,
            max_length=16,
            return_tensors="pt",
            return_token_type_ids=True,
        )
        with torch.no_grad():
            [row] = model(**inputs).logits.softmax(-1).tolist()
        scores.append({model.config.id2label[place]: score for place, score in enumerate(row)})
    return scores


def test_a_classifiers_scores_are_those_of_the_reference(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    read_spec(folder)  # sooner than in a process of its own
    flags = ("--backend", "torch", "--dtype", "float32", "--frontends", "2")
    with Server("--model", str(folder), *flags) as server:
        answer = server.http.post("/predict", json={"inputs": TEXTS})
        assert answer.status_code == 200, answer.text
        for ranked, scores in zip(answer.json(), expected(folder), strict=True):
            assert {one["label"]: one["score"] for one in ranked} == pytest.approx(scores, abs=1e-5)
        assert server.http.post("/embed", json={"inputs": "one"}).status_code == 424
        assert set(server.http.get("/info").json()["model_type"]) == {"classifier"}
        assert "/predict -H" in server.banner
        assert server.end() == 0


def test_an_image_reaches_the_engine_in_another_process() -> None:
    flags = ("--runner", "simulated", "--task", "image-classify", "--frontends", "2")
    with Server(*flags) as server:
        answers = [server.http.post("/", content=encoded(each)) for each in PICTURES]
        assert {answer.status_code for answer in answers} == {200}
        for answer, image in zip(answers, PICTURES, strict=True):
            logits = SimulatedVision(SimulatedConfig(), "image-classify").run([np.asarray(image)])
            best = int(np.argmax(logits[0]))
            assert answer.json()[0]["label"] == f"LABEL_{best}"
        assert server.http.post("/", content=drill("fault:raise")).status_code == 500
        assert server.end() == 0
