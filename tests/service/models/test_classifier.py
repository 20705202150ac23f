"""Logits against transformers' own model: texts and pairs, alone and batched, by every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from service.models.backends.torch.eager import TorchBackend
from service.models.backends.torch.packed import PackedBackend
from service.models.encoder import EncoderRunner
from service.repository.spec import ModelNotSupported
from service.tasks.text import TextTokenizer
from tests.service.configs import runner_config
from tests.service.tiny import make_classifier, read_spec

TEXTS: list[Any] = ["one", "two three four", "one two five four three two one four"]
PAIRS: list[Any] = [("one", "two"), ("four four four", "one"), ("two", "five one three four")]
INPUTS = [*TEXTS, *PAIRS]


def expected(folder: Path) -> NDArray[np.float32]:
    """One at a time, by the tokenizer and the model of transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for one in INPUTS:
        texts = (one,) if isinstance(one, str) else one
        with torch.inference_mode():
            rows.append(model(**tokenizer(*texts, return_tensors="pt")).logits[0].numpy())
    return np.stack(rows)


def named_arrays(folder: Path) -> list[dict[str, NDArray[np.int32]]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    both = (tokenizer(*((one,) if isinstance(one, str) else one)) for one in INPUTS)
    return [{name: np.array(each[name], np.int32) for name in each} for each in both]


def started(folder: Path, **config: Any) -> EncoderRunner:
    given = {"dtype": "float32", "backend": "torch", "threads": 1} | config
    runner = EncoderRunner(runner_config(str(folder), device="cpu", **given))
    runner.info = runner.warm_up()  # type: ignore[attr-defined]  # for the test to look at
    return runner


def agree(runner: EncoderRunner, folder: Path, atol: float = 1e-5) -> None:
    inputs, reference = named_arrays(folder), expected(folder)
    batched = np.asarray(runner.run(inputs))
    alone = np.concatenate([runner.run([one]) for one in inputs])
    np.testing.assert_allclose(batched, reference, atol=atol)
    np.testing.assert_allclose(alone, reference, atol=atol)
    np.testing.assert_allclose(np.asarray(runner.run(inputs[::-1])), reference[::-1], atol=atol)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("bert", PackedBackend),
        ("roberta", PackedBackend),
        ("xlm-roberta", PackedBackend),
        ("camembert", PackedBackend),
        ("distilbert", TorchBackend),
        ("electra", TorchBackend),
        ("bart", TorchBackend),
        ("t5", TorchBackend),
    ],
)
def test_logits_are_those_of_transformers(
    tmp_path: Path, kind: str, backend: type, labels: int
) -> None:
    folder = make_classifier(tmp_path, kind, labels, **_FIELDS.get(kind, {}))
    runner = started(folder)
    running = runner._backend
    assert isinstance(getattr(running, "_runs", running), backend)
    agree(runner, folder)


_FIELDS: dict[str, dict[str, Any]] = {
    **{kind: {"type_vocab_size": 1} for kind in ("roberta", "xlm-roberta", "camembert")},
    # Their heads read the last [SEP]: a pair has two of them.
    "bart": {"eos_token_id": 3},
    "t5": {"eos_token_id": 3, "decoder_start_token_id": 0},
}


def test_the_second_text_of_a_pair_is_of_another_type(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    runner = started(folder)
    pair = named_arrays(folder)[-1]
    assert set(pair["token_type_ids"]) == {0, 1}
    with_types, without = runner.run([pair, {"input_ids": pair["input_ids"]}])
    assert np.abs(with_types - without).max() > 1e-3


def test_a_pair_as_a_frontend_prepares_it_gets_the_logits_of_transformers(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    tokenizer = TextTokenizer.load(read_spec(folder))
    inputs = [
        tokenizer.prepare(one) if isinstance(one, str) else tokenizer.prepare_pair(*one)
        for one in INPUTS
    ]
    logits = np.asarray(started(folder).run([one.payload for one in inputs]))
    np.testing.assert_allclose(logits, expected(folder), atol=1e-5)


def test_ids_alone_are_one_text(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    runner = started(folder)
    text = named_arrays(folder)[1]
    bare, named = runner.run([text["input_ids"]]), runner.run([text])
    np.testing.assert_array_equal(np.asarray(bare), np.asarray(named))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_graph_with_the_head_answers_as_transformers_does(
    tmp_path: Path, kind: str, backend: str
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime" if backend == "onnx" else backend)
    folder = make_classifier(tmp_path, kind)
    runner = started(folder, backend=backend)
    assert runner.info["backend"] == backend  # type: ignore[attr-defined]
    agree(runner, folder)
    runner.close()


def test_a_reduced_precision_is_held_to_the_logits_of_float32(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    runner = started(folder, dtype="bfloat16")
    info = runner.info  # type: ignore[attr-defined]
    assert (info["dtype"], info["agreement"] >= 0.95) == ("bfloat16", True)
    agree(runner, folder, atol=0.05)


def test_a_compiled_classifier_compiles_for_pairs_too(tmp_path: Path) -> None:
    from service.models.backends.torch.compiled import KINDS, compile_backend
    from service.models.backends.torch.eager import load

    spec, cpu = read_spec(make_classifier(tmp_path, "bert")), torch.device("cpu")
    backend = TorchBackend(load(spec, cpu, torch.float32), spec, cpu)
    typed: list[bool] = []

    def compiled(model: Any) -> Any:
        def run(**given: Any) -> Any:
            typed.append("token_type_ids" in given)
            return model(**given)

        return run

    assert compile_backend(backend, spec, "", print, compiled)
    assert typed == [False, True] * len(KINDS)


def test_the_runner_tells_its_labels(tmp_path: Path) -> None:
    info = started(make_classifier(tmp_path, "bert", 2)).info  # type: ignore[attr-defined]
    assert info["task"] == "classify"
    assert (info["labels"], info["activation"]) == (["LABEL_0", "LABEL_1"], "softmax")
    assert "pooling" not in info


def test_missing_weights_of_the_head_are_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from service.repository.spec import ModelNotSupported

    folder = make_classifier(tmp_path, "bert")
    weights = {
        name: tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
        if not name.startswith("classifier.")
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelNotSupported, match=r"weights are missing, classifier\.bias first"):
        started(folder)


def test_an_embedder_takes_no_pair(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    runner = started(folder, task="embed")
    inputs = named_arrays(folder)
    assert np.asarray(runner.run(inputs[:3])).shape == (3, 33)
    with pytest.raises(ValueError, match=r"token types, which this model \(task embed\) has not"):
        runner.run(inputs)


def test_a_model_whose_answers_hang_on_what_is_batched_with_a_text_is_refused(
    tmp_path: Path,
) -> None:
    folder = make_classifier(tmp_path, "fnet")  # it has no attention mask
    with pytest.raises(ModelNotSupported, match="BATCHER_MAX_BATCH_SIZE=1"):
        started(folder)
    runner = started(folder, max_batch_size=1)
    batched = np.concatenate([runner.run([one]) for one in named_arrays(folder)])
    np.testing.assert_allclose(batched, expected(folder), atol=1e-5)
