"""A vector for each token against the reference library, alone and beside pooled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import sentence_transformers

from service.models.backends.torch.eager import TorchBackend
from service.models.backends.torch.packed import PackedBackend
from service.models.encoder import EncoderRunner
from service.models.rows import NotFinite
from service.tasks.all_tokens import FLAG
from service.tasks.text import TextTokenizer
from tests.service.configs import runner_config
from tests.service.tiny import make_classifier, make_tiny, read_spec

WORDS = ["one", "two", "three", "four", "five"]
SOME = [" ".join(WORDS[(n + k) % 5] for k in range(n)) for n in range(13)]
TEXTS = [SOME[n % 13] for n in range(64)]


def started(folder: Path, **config: Any) -> EncoderRunner:
    given = {"dtype": "float32", "backend": "torch", "threads": 1, **config}
    runner = EncoderRunner(runner_config(str(folder), device="cpu", **given))
    runner.warm_up()
    return runner


def ids_of(folder: Path) -> list[Any]:
    tokenizer = TextTokenizer.load(read_spec(folder))
    return [tokenizer.prepare(text).payload for text in TEXTS]


def all_tokens(ids: Any) -> dict[str, Any]:
    return {"input_ids": ids, "all_tokens": FLAG}


def agree(runner: EncoderRunner, folder: Path) -> None:
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    ids = ids_of(folder)
    pooled = runner.run(ids)
    expected = [
        model.encode(text, output_value="token_embeddings", show_progress_bar=False).numpy()
        for text in SOME
    ]
    # Every third one pooled: a batch holds both.
    mixed = runner.run([each if n % 3 == 0 else all_tokens(each) for n, each in enumerate(ids)])
    for n in range(64):
        if n % 3 == 0:
            np.testing.assert_allclose(mixed[n], pooled[n], atol=1e-6)
            continue
        right = expected[n % 13]
        assert mixed[n].shape == (len(ids[n]), 32)
        np.testing.assert_allclose(mixed[n], right, rtol=1e-4, atol=1e-5)
        if n < 13:
            [alone] = runner.run([all_tokens(ids[n])])
            np.testing.assert_allclose(alone, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "pooling", "backend"),
    [
        ("bert", "mean", PackedBackend),
        ("xlm-roberta", "cls", PackedBackend),
        ("distilbert", "mean", TorchBackend),
        ("electra", "mean", TorchBackend),
        ("modernbert", "cls", TorchBackend),
        ("qwen2", "lasttoken", TorchBackend),
    ],
)
def test_states_are_those_of_the_reference(
    tmp_path: Path, kind: str, pooling: str, backend: type
) -> None:
    folder = make_tiny(tmp_path, kind, pooling, normalize=True)
    runner = started(folder)
    assert type(runner._backend) is backend
    agree(runner, folder)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_exported_graph_has_them_too(tmp_path: Path, backend: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime" if backend == "onnx" else backend)
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    agree(started(folder, backend=backend), folder)


def test_a_text_with_a_bad_number_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    runner, ids = started(folder), ids_of(folder)[:3]
    with_tokens = runner._backend.with_tokens

    def poisoned(*given: Any) -> Any:
        answers, states = with_tokens(*given)
        states[0][0, 0] = np.nan
        return answers, states

    monkeypatch.setattr(runner._backend, "with_tokens", poisoned)
    first, second, third = runner.run([ids[0], all_tokens(ids[1]), all_tokens(ids[2])])
    assert isinstance(second, NotFinite)
    assert (first.ndim, third.ndim) == (1, 2)


def test_a_classifier_has_no_vectors_of_tokens(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    with pytest.raises(ValueError, match=r"all tokens, which this model \(task classify\)"):
        started(folder).run([all_tokens(ids_of(folder)[0])])
