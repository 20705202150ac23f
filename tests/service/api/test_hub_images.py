"""Images at POST /, as huggingface_hub's InferenceClient sends them, against the pipelines of
transformers."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

pytest.importorskip("torch")
pytest.importorskip("transformers")

import transformers

from tests.service.api.test_images import (
    CLOSE,
    IMAGES,
    client_of,
    engine_of,
    of_length_one,
    vectors_of_images,
)
from tests.service.conftest import is_tei_error
from tests.service.loopback import run, serving
from tests.service.tiny_images import (
    PICTURES,
    encoded,
    make_image_classifier,
    make_image_embedder,
    picture,
)

FILES = [encoded(each) for each in PICTURES]
LABELS = ["one", "two three", "four", "five five one"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_classifier(tmp_path_factory.mktemp("vit"), labels=7)


@pytest.fixture(scope="module")
def sees(classifier: Path) -> Iterator[TestClient]:
    with client_of(classifier) as client:
        yield client


@pytest.fixture(scope="module", params=["clip", "siglip"])
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_embedder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def both(embedder: Path) -> Iterator[TestClient]:
    with client_of(embedder) as client:
        yield client


def alike(got: Any, expected: Any) -> None:
    assert [each["label"] for each in got] == [each["label"] for each in expected]
    scores = [[each["score"] for each in told] for told in (got, expected)]
    np.testing.assert_allclose(*scores, **CLOSE)


@pytest.mark.parametrize("media", [None, "image/png", "application/octet-stream", "text/plain"])
def test_an_image_as_it_is(sees: TestClient, classifier: Path, media: str | None) -> None:
    pipeline = transformers.pipeline("image-classification", str(classifier))
    headers = {} if media is None else {"content-type": media}
    answer = sees.post("/", content=FILES[2], headers=headers)
    assert answer.status_code == 200, answer.text
    alike(answer.json(), pipeline(PICTURES[2]))
    assert "inference;dur=" in answer.headers["server-timing"]


PARAMETERS: list[dict[str, Any]] = [
    {},
    {"top_k": 2},
    {"top_k": 99},
    {"function_to_apply": "sigmoid"},
    {"function_to_apply": "none"},
]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_an_image_in_json(sees: TestClient, classifier: Path, parameters: dict[str, Any]) -> None:
    pipeline = transformers.pipeline("image-classification", str(classifier))
    body = {"inputs": base64.b64encode(FILES[4]).decode(), "parameters": parameters}
    answer = sees.post("/", json=body)
    assert answer.status_code == 200, answer.text
    alike(answer.json(), pipeline(PICTURES[4], **parameters))


def test_several_images(sees: TestClient, classifier: Path) -> None:
    pipeline = transformers.pipeline("image-classification", str(classifier))
    answer = sees.post("/", json={"inputs": IMAGES})
    for got, image in zip(answer.json(), PICTURES, strict=True):
        alike(got, pipeline(image))


@pytest.mark.parametrize("template", [None, "{} three", "one {} two"])
def test_zero_shot(both: TestClient, embedder: Path, template: str | None) -> None:
    pipeline = transformers.pipeline("zero-shot-image-classification", str(embedder))
    asked = {} if template is None else {"hypothesis_template": template}
    for image, file in zip(PICTURES[2:], FILES[2:], strict=True):
        body = {
            "inputs": base64.b64encode(file).decode(),
            "parameters": {"candidate_labels": LABELS, **asked},
        }
        answer = both.post("/", json=body)
        assert answer.status_code == 200, answer.text
        alike(answer.json(), pipeline(image, LABELS, **asked))


def test_zero_shot_as_hugging_faces_client_in_javascript_asks_it(both: TestClient) -> None:
    parameters = {"candidate_labels": LABELS}
    told = [
        both.post("/", json={"inputs": inputs, "parameters": parameters}).json()
        for inputs in (IMAGES[0], {"image": IMAGES[0]})
    ]
    assert told[0] == told[1]
    assert {each["label"] for each in told[0]} == set(LABELS)


def test_an_embedder_gives_the_vector_of_an_image_or_a_text(
    both: TestClient, embedder: Path
) -> None:
    expected = of_length_one(vectors_of_images(embedder))
    answer = both.post("/", content=FILES[3])
    np.testing.assert_allclose(answer.json(), expected[3:4], **CLOSE)
    answer = both.post("/", json={"inputs": [IMAGES[3], "one"]})
    np.testing.assert_allclose(answer.json()[0], expected[3], **CLOSE)
    assert answer.json()[1:] == both.post("/embed", json={"inputs": "one"}).json()


BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "`inputs` cannot be empty"),
    "no image": (b"hello", 422, "inputs: is not an image"),
    "truncated": (encoded(picture(60, 60), "JPEG")[:-300], 422, "cannot be decoded"),
    "a url": (b'{"inputs": "https://example.com/cat.png"}', 422, "it is not fetched"),
    "not base64": (b'{"inputs": "***"}', 422, "base64"),
    "not json": (b'{"inputs": ', 400, "not JSON"),
    "a number": (b'{"inputs": 5}', 422, "inputs: "),
}


@pytest.mark.parametrize(("body", "status", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_named(sees: TestClient, body: bytes, status: int, says: str) -> None:
    answer = sees.post("/", content=body)
    assert answer.status_code == status, answer.text
    assert is_tei_error(answer.json())
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"inputs": "aGVsbG8=", "parameters": {"candidate_labels": LABELS}}, 422, "inputs: is not"),
        ({"inputs": IMAGES[0], "parameters": {"candidate_labels": []}}, 400, "cannot be empty"),
        ({"inputs": IMAGES[0], "parameters": {"candidate_labels": "one"}}, 422, "candidate_labels"),
        ({"inputs": IMAGES[0], "parameters": {"candidate_labels": ["a"] * 2048}}, 422, "at most"),
        ({"inputs": 5, "parameters": {"candidate_labels": LABELS}}, 422, "inputs: "),
        (
            {
                "inputs": IMAGES[0],
                "parameters": {"candidate_labels": ["a"], "hypothesis_template": "{0.__class__}"},
            },
            422,
            "must hold {} once",
        ),
    ],
)
def test_bad_labels_are_named(
    both: TestClient, body: dict[str, Any], status: int, says: str
) -> None:
    answer = both.post("/", json=body)
    assert answer.status_code == status, answer.text
    assert is_tei_error(answer.json())
    assert says in answer.json()["error"]


def test_labels_are_cut_only_where_the_pipeline_cuts_them(
    both: TestClient, embedder: Path, request: pytest.FixtureRequest
) -> None:
    labels = ["one " * 90 + "two", "one " * 90 + "three"]
    body = {"inputs": IMAGES[2], "parameters": {"candidate_labels": labels}}
    answer = both.post("/", json=body)
    if request.node.callspec.params["embedder"] == "siglip":
        pipeline = transformers.pipeline("zero-shot-image-classification", str(embedder))
        alike(answer.json(), pipeline(PICTURES[2], labels))
    else:  # there the pipeline fails
        assert answer.status_code == 422
        assert "candidate_labels" in answer.json()["error"]
        assert "must have less than" in answer.json()["error"]


def test_a_label_is_a_text_whatever_it_looks_like(both: TestClient) -> None:
    labels = ["data:image/png;base64,AAAA", "https://example.com/cat.png"]
    parameters = {"candidate_labels": labels, "hypothesis_template": "{}"}
    answer = both.post("/", json={"inputs": IMAGES[0], "parameters": parameters})
    assert answer.status_code == 200, answer.text
    assert {each["label"] for each in answer.json()} == set(labels)


def test_a_body_that_is_too_large_is_refused(sees: TestClient) -> None:
    answer = sees.post("/", content=b"\x89PNG" + bytes(32 << 20))
    assert answer.status_code == 413


def test_a_compressed_image_is_read(sees: TestClient) -> None:
    headers = {"content-encoding": "gzip"}
    answer = sees.post("/", content=gzip.compress(FILES[0]), headers=headers)
    assert answer.json() == sees.post("/", content=FILES[0]).json()
    assert sees.post("/", content=FILES[0], headers=headers).status_code == 400
    assert sees.post("/", content=FILES[0], headers={"content-encoding": "br"}).status_code == 415


def test_text_models_take_no_image(http: TestClient) -> None:
    answer = http.post("/", content=FILES[0])
    assert answer.status_code == 424
    assert answer.json()["error"] == (
        "the body is a file (an image or audio), not JSON; the model that is served here is for"
        " feature extraction, sentence similarity and reranking"
    )
    answer = http.post("/", content=b"hello")
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]


def test_the_body_of_each_is_described(sees: TestClient, both: TestClient) -> None:
    for client, name in ((sees, "ImageClassificationBody"), (both, "ZeroShotImageBody")):
        document = client.get("/openapi.json").json()
        assert name in json.dumps(document["paths"]["/"]["post"]["requestBody"])


def test_the_hubs_own_client(classifier: Path, embedder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    pipeline = transformers.pipeline("image-classification", str(classifier))

    async def ask_all() -> None:
        engine, served = engine_of(classifier)
        async with serving(engine) as site:
            site.front.served = served
            client = hub.InferenceClient(model=f"http://127.0.0.1:{site.port}")
            got = await asyncio.to_thread(client.image_classification, FILES[4])
            alike([dict(each) for each in got], pipeline(PICTURES[4]))
            got = await asyncio.to_thread(client.image_classification, FILES[4], top_k=2)
            alike([dict(each) for each in got], pipeline(PICTURES[4], top_k=2))
        engine, served = engine_of(embedder)
        async with serving(engine) as site:
            site.front.served = served
            client = hub.InferenceClient(model=f"http://127.0.0.1:{site.port}")
            ask = client.zero_shot_image_classification
            got = await asyncio.to_thread(ask, FILES[4], candidate_labels=LABELS)
            zero_shot = transformers.pipeline("zero-shot-image-classification", str(embedder))
            alike([dict(each) for each in got], zero_shot(PICTURES[4], LABELS))

    run(ask_all())
