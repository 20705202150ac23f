"""Images on the routes that are there for texts: a text that is a data: URI stands for one."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from batcher.runner import RunnerInfo
from service.app import create_app
from service.catalog import ServedModel
from service.models.create import create_runner
from service.processes.build import _serve_model
from service.settings import Settings
from tests.service.configs import runner_config
from tests.service.conftest import FakeClient, is_openai_error, is_tei_error, make_front
from tests.service.tiny_images import (
    PICTURES,
    data_uri,
    encoded,
    make_image_classifier,
    make_image_embedder,
)

IMAGES = [data_uri(encoded(each)) for each in PICTURES]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def engine_of(folder: Path) -> tuple[FakeClient, ServedModel]:
    """The model runs where it is asked: the whole way but for the engine."""
    runner = create_runner(
        "transformers", runner_config(str(folder), device="cpu", dtype="float32", threads=1)
    )
    facts = runner.warm_up()

    def answer(payload: Any) -> Any:
        [result] = runner.run([payload])
        if isinstance(result, Exception):
            raise result
        return result

    engine = FakeClient(answer=answer, up=False)
    engine.collector.replica_up(0, RunnerInfo.from_facts(facts))
    return engine, _serve_model(Settings(model=str(folder)))


def client_of(folder: Path) -> TestClient:
    engine, served = engine_of(folder)
    front = make_front(engine)
    front.served = served
    return TestClient(create_app(front))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = {0: "cat", 1: "dog", 2: "so so"}
    return make_image_classifier(tmp_path_factory.mktemp("vit"), id2label=labels)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_embedder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def sees(classifier: Path) -> Iterator[TestClient]:
    with client_of(classifier) as client:
        yield client


@pytest.fixture(scope="module")
def both(embedder: Path) -> Iterator[TestClient]:
    with client_of(embedder) as client:
        yield client


def vectors_of_images(folder: Path) -> Any:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    process = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        rows = [
            model.get_image_features(**process(images=each, return_tensors="pt")).pooler_output
            for each in PICTURES
        ]
    return torch.cat(rows).numpy()


def of_length_one(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_predict_scores_an_image_as_the_pipeline_does(sees: TestClient, classifier: Path) -> None:
    pipeline = transformers.pipeline("image-classification", str(classifier))
    answer = sees.post("/predict", json={"inputs": [[each] for each in IMAGES]})
    assert answer.status_code == 200, answer.text
    for got, image in zip(answer.json(), PICTURES, strict=True):
        expected = pipeline(image)
        assert [each["label"] for each in got] == [each["label"] for each in expected]
        np.testing.assert_allclose(
            [each["score"] for each in got], [each["score"] for each in expected], **CLOSE
        )


def test_openai_vectors_of_images_and_texts_are_of_one_space(
    both: TestClient, embedder: Path
) -> None:
    given = [{"image": IMAGES[0]}, {"text": "one two"}, *IMAGES[1:]]  # some as Jina's clients do
    answer = both.post("/v1/embeddings", json={"input": given, "model": str(embedder)})
    assert answer.status_code == 200, answer.text
    got = np.array([each["embedding"] for each in answer.json()["data"]])
    expected = of_length_one(vectors_of_images(embedder))
    np.testing.assert_allclose(np.delete(of_length_one(got), 1, axis=0), expected, **CLOSE)
    alone = both.post("/v1/embeddings", json={"input": IMAGES[2], "model": str(embedder)})
    assert alone.json()["usage"]["prompt_tokens"] == 17
    np.testing.assert_allclose(
        of_length_one(np.array([alone.json()["data"][0]["embedding"]]))[0], expected[2], **CLOSE
    )


def test_embed_gives_the_vectors_as_they_are_or_of_length_one(
    both: TestClient, embedder: Path
) -> None:
    expected = vectors_of_images(embedder)
    got = both.post("/embed", json={"inputs": IMAGES, "normalize": False}).json()
    np.testing.assert_allclose(got, expected, **CLOSE)
    got = both.post("/embed", json={"inputs": IMAGES}).json()
    np.testing.assert_allclose(got, of_length_one(expected), **CLOSE)


BAD = {
    "url": ("https://example.com/cat.png", "it is not fetched"),
    "truncated": (data_uri(encoded(PICTURES[4])[:-900]), "cannot be decoded"),
    "no image": (data_uri(b"hello"), "not an image that can be read"),
    "not base64": ("data:image/png;base64,****", "base64"),
    "of another kind": ("data:audio/wav;base64,AAAA", "of audio/wav"),
    "empty": ("data:image/png;base64,", "empty"),
}


@pytest.mark.parametrize(("image", "says"), BAD.values(), ids=BAD)
def test_a_bad_image_is_named_and_is_never_taken_for_a_text(
    both: TestClient, sees: TestClient, embedder: Path, image: str, says: str
) -> None:
    answer = both.post("/v1/embeddings", json={"input": ["one", image], "model": str(embedder)})
    assert answer.status_code == 400
    assert is_openai_error(answer.json())
    assert answer.json()["error"]["param"] == "input[1]"
    assert says in answer.json()["error"]["message"]
    for client, route in ((both, "/embed"), (sees, "/predict")):
        answer = client.post(route, json={"inputs": image})
        assert answer.status_code == 422
        assert is_tei_error(answer.json())
        assert says in answer.json()["error"]


def test_more_pixels_than_are_allowed_are_refused(both: TestClient, embedder: Path) -> None:
    settings = Settings(model=str(embedder), max_image_pixels=1000)
    front = make_front(FakeClient())
    front.served = _serve_model(settings)
    with TestClient(create_app(front)) as client:
        answer = client.post("/embed", json={"inputs": IMAGES[0]})
    assert answer.status_code == 422
    assert "32 x 32 pixels; at most 1000 are allowed" in answer.json()["error"]


def test_equal_pixels_are_one_payload(embedder: Path) -> None:
    """The engine finds them by it, whatever files they came in."""
    engine = FakeClient()
    front = make_front(engine)
    front.served = _serve_model(Settings(model=str(embedder)))
    files = [encoded(PICTURES[2]), encoded(PICTURES[2], "TIFF"), encoded(PICTURES[2], "BMP")]
    with TestClient(create_app(front)) as client:
        answer = client.post("/embed", json={"inputs": [data_uri(each) for each in files]})
    assert answer.status_code == 200
    first, *others = engine.last.payloads
    assert all(np.array_equal(first, each) for each in others)
    assert engine.last.costs == [17, 17, 17]


def test_texts_and_pairs_are_no_images(sees: TestClient) -> None:
    for inputs in ("a cat", [["a cat"]]):
        answer = sees.post("/predict", json={"inputs": inputs})
        assert answer.status_code == 422
        assert "not an image" in answer.json()["error"]
    answer = sees.post("/predict", json={"inputs": [[IMAGES[0], IMAGES[1]]]})
    assert answer.status_code == 422
    assert "one image" in answer.json()["error"]


def test_a_wrong_task_is_a_lasting_refusal(sees: TestClient, both: TestClient) -> None:
    answer = sees.post("/embed", json={"inputs": IMAGES[0]})
    assert answer.status_code == 424
    assert "is not an embedding model: use POST / or POST /predict" in answer.json()["error"]
    answer = both.post("/predict", json={"inputs": IMAGES[0]})
    assert answer.status_code == 424
    name = sees.get("/info").json()["model_id"]
    answer = sees.post("/v1/embeddings", json={"input": IMAGES[0], "model": name})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "model_not_supported"


def test_info_says_what_the_model_is(sees: TestClient, both: TestClient) -> None:
    labels = sees.get("/info").json()["model_type"]["classifier"]["id2label"]
    assert labels == {"0": "cat", "1": "dog", "2": "so so"}
    assert both.get("/info").json()["model_type"] == {"embedding": {"pooling": None}}


def test_a_text_model_takes_a_data_uri_for_the_text_that_it_is(http: TestClient) -> None:
    for text in (IMAGES[1], "https://example.com/cat.png"):
        assert http.post("/embed", json={"inputs": text}).status_code == 200


def test_base64_alone_is_an_image_for_a_classifier(sees: TestClient) -> None:
    bare = base64.b64encode(encoded(PICTURES[0])).decode()
    one, other = (sees.post("/predict", json={"inputs": given}) for given in (bare, IMAGES[0]))
    assert one.json() == other.json()
