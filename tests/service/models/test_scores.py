"""Relevance over HTTP against the reference library: cross-encoders, and embedders by cosine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import sentence_transformers
import torch

from batcher import Answer
from service.app import create_app
from service.catalog import text_model
from service.models.encoder import EncoderRunner
from service.tasks.text import TextTokenizer
from tests.service.configs import runner_config
from tests.service.conftest import REPORT, FakeClient, make_front
from tests.service.tiny import make_classifier, make_tiny, read_spec

QUERY = "two five"
WORDS = ("one", "two", "three", "four", "five", "what")
# 64 of all lengths: some are cut, one is empty, and no two are the same.
TEXTS = [" ".join(WORDS[(n * k + k) % 6] for k in range(n % 23)) for n in range(64)]
KINDS = [
    *("bert", "roberta", "distilbert", "xlm-roberta", "mpnet", "electra", "deberta-v2"),
    *("modernbert", "gpt2"),
]
_FIELDS: dict[str, dict[str, Any]] = {
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
}
LIMIT = 14  # tokens: what positions behind the padding id leave of 16


@dataclass
class Running(FakeClient):
    """The runner itself, without an engine: the inputs of a call are one batch."""

    runner: EncoderRunner | None = None

    async def submit_all(self, payloads: Sequence[Any], **_: Any) -> list[Answer]:
        assert self.runner is not None
        return [Answer(one, 0.0, REPORT) for one in self.runner.run(payloads)]


def serving(folder: Path, backend: str = "torch") -> Iterator[TestClient]:
    given = {"dtype": "float32", "backend": backend, "threads": 1, "device": "cpu"}
    runner = EncoderRunner(runner_config(str(folder), **given))
    runner.warm_up()
    spec = read_spec(folder)
    front = make_front(Running(runner=runner))
    front.served = text_model("tests/tiny", spec, TextTokenizer.load(spec), created=0)
    with TestClient(create_app(front)) as client:
        yield client
    front.close()
    runner.close()


def make_cross_encoder(folder: Path, kind: str) -> Path:
    """As the reference library saves it."""
    plain = make_classifier(folder / "plain", kind, 1, **_FIELDS.get(kind, {}))
    reference = sentence_transformers.CrossEncoder(str(plain), max_length=LIMIT, device="cpu")
    reference.save_pretrained(str(folder / "saved"))
    return folder / "saved"


def ranked(http: TestClient, texts: Sequence[str], **options: Any) -> list[dict[str, Any]]:
    answer = http.post("/rerank", json={"query": QUERY, "texts": texts, **options})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    return found


def scores(http: TestClient, texts: Sequence[str], **options: Any) -> list[float]:
    found = {each["index"]: each["score"] for each in ranked(http, texts, **options)}
    return [found[place] for place in range(len(texts))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cross_encoders_scores_are_those_of_the_reference(tmp_path: Path, kind: str) -> None:
    folder = make_cross_encoder(tmp_path, kind)
    reference = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    pairs = [(QUERY, text) for text in TEXTS]
    logits = reference.predict(pairs, activation_fn=torch.nn.Identity())
    assert np.ptp(logits) > 1e-3, "it tells no text from another"
    for http in serving(folder):
        for raw, expected in ((True, logits), (False, reference.predict(pairs))):
            together = scores(http, TEXTS, raw_scores=raw)
            np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-5)
            for place in (0, 1, 22, 37):
                [alone] = scores(http, [TEXTS[place]], raw_scores=raw)
                np.testing.assert_allclose(alone, expected[place], rtol=1e-4, atol=1e-5)
        order = [each["index"] for each in ranked(http, TEXTS, raw_scores=True)]
        gaps = np.diff([logits[place] for place in order])
        assert gaps.max() < 1e-5
        answer = http.post("/predict", json={"inputs": [[QUERY, TEXTS[9]], [TEXTS[5]]]}).json()
        assert answer[0][0]["score"] == pytest.approx(reference.predict(pairs[9]), abs=1e-5)


@pytest.mark.parametrize("backend", ["onnx", "openvino", "reference"])
def test_every_backend_scores_as_the_reference_does(tmp_path: Path, backend: str) -> None:
    needs = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
    for package in needs.get(backend, ()):
        pytest.importorskip(package)
    folder = make_cross_encoder(tmp_path, "deberta-v2")
    reference = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    expected = reference.predict([(QUERY, text) for text in TEXTS])
    for http in serving(folder, backend):
        np.testing.assert_allclose(scores(http, TEXTS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra"])
def test_similarities_are_those_of_the_reference(tmp_path: Path, kind: str) -> None:
    folder = make_tiny(tmp_path, kind, "mean", normalize=kind == "bert")
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    # What the reference does with too many tokens for RoBERTa's positions is an IndexError.
    texts = [text for text in TEXTS if len(text.split()) <= LIMIT - 2]
    cosines = sentence_transformers.util.cos_sim(
        reference.encode([QUERY]), reference.encode(texts)
    )[0].numpy()
    inputs = {"source_sentence": QUERY, "sentences": texts}
    for http in serving(folder):
        got = http.post("/similarity", json={"inputs": inputs}).json()
        np.testing.assert_allclose(got, cosines, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            scores(http, texts, raw_scores=True), cosines, rtol=1e-4, atol=1e-5
        )
        expected = np.maximum(cosines, 0)
        np.testing.assert_allclose(scores(http, texts), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("default", [None, "query", "other"])
def test_an_embedder_ranks_with_its_prompts_for_retrieval(
    tmp_path: Path, default: str | None
) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    named = {"query": "three one", "document": "five ", "other": "four four "}
    file = folder / "config_sentence_transformers.json"
    told = json.loads(file.read_text()) | {"prompts": named, "default_prompt_name": default}
    file.write_text(json.dumps(told))
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    cosines = sentence_transformers.util.cos_sim(
        reference.encode_query([QUERY]), reference.encode_document(TEXTS)
    )[0].numpy()
    similar = sentence_transformers.util.cos_sim(
        reference.encode([QUERY], prompt_name="other"),
        reference.encode(TEXTS, prompt_name="other"),
    )[0].numpy()
    assert np.abs(cosines - similar).max() > 1e-3, "the prompts make no difference"
    inputs = {"source_sentence": QUERY, "sentences": TEXTS}
    for http in serving(folder):
        found = scores(http, TEXTS, raw_scores=True)
        np.testing.assert_allclose(found, cosines, rtol=1e-4, atol=1e-5)
        body = {"inputs": inputs, "parameters": {"prompt_name": "other"}}
        got = http.post("/similarity", json=body).json()
        np.testing.assert_allclose(got, similar, rtol=1e-4, atol=1e-5)


def test_a_saved_cross_encoder_names_its_limit(tmp_path: Path) -> None:
    folder = make_cross_encoder(tmp_path, "bert")
    assert read_spec(folder).max_length == LIMIT
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        "BertForSequenceClassification"
    ]
