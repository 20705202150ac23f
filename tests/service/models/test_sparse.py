"""The weights of words against the reference library's sparse encoder, on tiny random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

import sentence_transformers
import torch
import transformers

from service.models import lexical
from service.models.backends import BackendNotAvailable
from service.models.backends.torch.eager import TorchBackend, load
from service.models.backends.torch.packed import PackedBackend
from service.models.encoder import EncoderRunner
from service.models.lexical import Lexical
from service.models.measures import Weights
from service.models.rows import NotFinite
from service.repository.spec import ModelNotSupported
from service.tasks.text import TextTokenizer
from tests.service.configs import runner_config
from tests.service.tiny import make_masked, make_sparse, make_tiny, read_spec

WORDS = ["one", "two", "three", "four", "five"]
SOME = [" ".join(WORDS[(n + k) % 5] for k in range(n)) for n in range(13)]
TEXTS = [SOME[n % 13] for n in range(64)]
PACKED = {"bert", "roberta", "xlm-roberta"}
KINDS = [
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "electra",
    "albert",
    "modernbert",
    "deberta-v2",
]


def expected(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """Each text alone: the reference's own answers move when it batches."""
    model = sentence_transformers.SparseEncoder(str(folder), device="cpu")
    rows = {
        text: model.encode(text, convert_to_sparse_tensor=False, show_progress_bar=False)
        for text in set(texts)
    }
    return torch.stack([rows[text] for text in texts]).numpy()


def dense(answers: Any, width: int) -> NDArray[np.float32]:
    rows = np.zeros((len(answers), width), np.float32)
    for row, (places, weights) in zip(rows, answers, strict=True):
        assert (places.dtype, weights.dtype) == (np.int32, np.float32)
        assert (np.diff(places) > 0).all()
        assert (weights > 0).all()
        row[places] = weights
    return rows


def started(folder: Path, **config: Any) -> EncoderRunner:
    runner = EncoderRunner(
        runner_config(str(folder), device="cpu", **{"dtype": "float32", "threads": 1, **config})
    )
    runner.warm_up()
    return runner


def ids_of(folder: Path, task: str = "auto") -> list[Any]:
    tokenizer = TextTokenizer.load(read_spec(folder, task))
    return [tokenizer.prepare(text).payload for text in TEXTS]


def agree(folder: Path, runs: type = PackedBackend, **config: Any) -> None:
    runner, reference, ids = started(folder, **config), expected(folder, TEXTS), ids_of(folder)
    assert type(runner._backend) is runs
    width = reference.shape[1]
    together = dense(runner.run(ids), width)
    alone = np.concatenate([dense(runner.run([one]), width) for one in ids[:13]])
    np.testing.assert_allclose(together, reference, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone, reference[:13], rtol=1e-4, atol=1e-5)
    assert 0 < np.count_nonzero(reference) < reference.size, "nothing is sparse here"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_reference_alone_and_among_others(
    tmp_path: Path, kind: str
) -> None:
    agree(make_sparse(tmp_path, kind), PackedBackend if kind in PACKED else TorchBackend)


@pytest.mark.parametrize(
    ("pooling", "activation", "most"),
    [("sum", "relu", None), ("max", "log1p_relu", None), ("sum", "log1p_relu", 2)],
)
def test_the_models_own_pooling_is_used(
    tmp_path: Path, pooling: str, activation: str, most: int | None
) -> None:
    agree(make_sparse(tmp_path, "bert", pooling, activation, max_active_dims=most))


def test_a_prompt_and_a_limit_of_its_own_are_as_the_reference_has_them(tmp_path: Path) -> None:
    prompts = {"query": "two two", "document": ""}
    folder = make_sparse(tmp_path, "bert", prompts=prompts, default_prompt_name="query")
    kinds = json.loads((folder / "modules.json").read_text())
    kinds[0]["type"] = "sentence_transformers.sparse_encoder.models.MLMTransformer"  # an old name
    (folder / "modules.json").write_text(json.dumps(kinds))
    limits = {"max_seq_length": 9, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    assert read_spec(folder).max_length == 9
    agree(folder)


def test_modules_that_no_backend_has_are_run_by_the_reference(tmp_path: Path) -> None:
    from service.models.backends.reference import ReferenceBackend

    make_tiny(tmp_path / "tiny", "bert", "mean", normalize=False)
    modules = [
        sentence_transformers.base.modules.Transformer(str(tmp_path / "tiny" / "plain")),
        sentence_transformers.sentence_transformer.modules.Pooling(32, "mean"),
        sentence_transformers.sparse_encoder.modules.SparseAutoEncoder(32, 64, k=8),
    ]
    model = sentence_transformers.SparseEncoder(modules=modules, device="cpu")
    model.save(str(tmp_path / "csr"), create_model_card=False)
    spec = read_spec(tmp_path / "csr")
    assert (spec.task, spec.dimension, spec.max_active) == ("sparse", 64, 8)
    agree(tmp_path / "csr", ReferenceBackend, backend="auto")


def test_logits_are_made_a_few_tokens_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "MOST_LOGITS", 64 * 9 * 2)
    for pooling in ("max", "sum"):
        agree(make_sparse(tmp_path / pooling, "distilbert", pooling), TorchBackend)
    agree(make_sparse(tmp_path / "packed", "bert"))


def test_where_only_the_model_makes_logits_they_are_made_of_a_few_texts_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "MOST_WHOLE", 3 * 9 * 15)
    monkeypatch.setattr(lexical, "_taken_apart", lambda model: None)
    agree(make_sparse(tmp_path, "bert"), TorchBackend)


def test_a_last_layer_that_is_not_all_stays_where_it_is(tmp_path: Path) -> None:
    model = transformers.AutoModelForMaskedLM.from_pretrained(make_masked(tmp_path, "bert")).eval()
    ids = torch.arange(6).view(2, 3)
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        model.cls.register_forward_hook(lambda module, given, logits: logits + 1)
        assert lexical._taken_apart(model) is None
        np.testing.assert_array_equal(model(input_ids=ids).logits, before + 1)


def test_the_last_layer_is_taken_out_of_the_usual_models(tmp_path: Path) -> None:
    for kind in ("bert", "roberta", "distilbert"):
        folder = make_sparse(tmp_path / kind, kind)
        model = load(read_spec(folder), torch.device("cpu"), torch.float32)
        assert isinstance(model, Lexical)
        assert model.output is not None, kind


def test_a_masked_language_model_is_for_what_a_setting_says(tmp_path: Path) -> None:
    folder = make_masked(tmp_path, "bert")
    with pytest.raises(ModelNotSupported, match="BATCHER_TASK=sparse serves it as a sparse"):
        read_spec(folder)
    model = sentence_transformers.SparseEncoder(str(folder), device="cpu")
    runner = started(folder, task="sparse")
    found = dense(runner.run(ids_of(folder, "sparse")[:9]), 9)
    reference = model.encode(TEXTS[:9], convert_to_sparse_tensor=False, show_progress_bar=False)
    np.testing.assert_allclose(found, reference.numpy(), rtol=1e-4, atol=1e-5)


def test_what_is_no_masked_language_model_is_not_for_it(tmp_path: Path) -> None:
    folder = make_sparse(tmp_path, "bert")
    assert read_spec(folder).task == "sparse"
    with pytest.raises(ModelNotSupported, match="BATCHER_TASK=classify needs a text classifier"):
        read_spec(folder, "classify")


def test_a_backend_that_cannot_run_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendNotAvailable, match="backend onnx does not run task sparse"):
        started(make_sparse(tmp_path, "bert"), backend="onnx")


def test_a_reduced_precision_keeps_the_weights(tmp_path: Path) -> None:
    folder = make_sparse(tmp_path, "bert")
    runner, ids = started(folder, dtype="bfloat16"), ids_of(folder)
    reference = expected(folder, TEXTS)
    found = dense(runner.run(ids), reference.shape[1])
    assert Weights().agreement(found, reference) > 0.999


def test_an_answer_that_is_no_number_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sparse(tmp_path, "bert")
    runner, ids = started(folder), ids_of(folder)[:3]
    forward = runner._backend.forward

    def poisoned(*given: Any) -> Any:
        answers = forward(*given)
        answers[1, 2] = np.nan
        return answers

    monkeypatch.setattr(runner._backend, "forward", poisoned)
    first, second, third = runner.run(ids)
    assert isinstance(second, NotFinite)
    assert len(first) == len(third) == 2


def test_a_text_without_any_weight_is_like_another_and_unlike_one_that_has_some() -> None:
    none, some = np.zeros((1, 3), np.float32), np.array([[0, 2, 0]], np.float32)
    assert Weights().agreement(none, none) == pytest.approx(1)
    assert Weights().distance(none, none) == 0
    assert Weights().agreement(none, some) == 0
    assert Weights().distance(none, some) == 1
