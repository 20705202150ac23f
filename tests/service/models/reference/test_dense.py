"""Whatever sentence-transformers can load is answered as it answers, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.models.backends import BackendNotAvailable
from service.models.config import ModelConfig, RunnerConfig
from service.models.encoder import EncoderRunner
from service.placement.replica_count import Placement
from service.repository.json_files import ModelNotSupported
from service.repository.prompts import with_prompts
from tests.service.tiny import TINY_TEXTS, make_classifier, make_tiny, read_spec

library = pytest.importorskip("sentence_transformers")
modules = library.sentence_transformer.modules
base = library.base.modules

TEXTS = [text for text in TINY_TEXTS if text]


def expected(folder: Path, **options: Any) -> np.ndarray[Any, Any]:
    model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors: np.ndarray[Any, Any] = model.encode(TEXTS, normalize_embeddings=True, **options)
    return vectors


def runner(folder: Path, tmp_path: Path, **settings: Any) -> EncoderRunner:
    config = ModelConfig(
        str(folder), backend=settings.pop("backend", "auto"), cache_dir=str(tmp_path), **settings
    )
    return EncoderRunner(RunnerConfig(config, Placement("cpu", threads=1)))


def served(folder: Path, tmp_path: Path, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The vectors of TEXTS, of length 1, and the facts of the start."""
    started = runner(folder, tmp_path, **settings)
    facts = dict(started.warm_up())
    together = np.asarray(started.run(TEXTS))
    alone = np.concatenate([np.asarray(started.run([text])) for text in TEXTS])
    started.close()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    return together[:, : facts["dimension"]], facts


def chain(folder: Path, kind: str, pooling: Any, *more: Any, **pooling_options: Any) -> Path:
    plain = make_tiny(folder, kind, "mean", normalize=False).parent / "plain"
    torch.manual_seed(3)
    steps = [base.Transformer(str(plain)), modules.Pooling(32, pooling, **pooling_options)]
    model = library.SentenceTransformer(modules=[*steps, *more], device="cpu")
    model.save(str(folder / "chain"), create_model_card=False)
    return folder / "chain"


def dense(out: int = 12) -> Any:
    return base.Dense(32, out, activation_function=torch.nn.Tanh())


OF_THE_REFERENCE: dict[str, Callable[[Path], Path]] = {
    "Dense and Normalize": lambda at: chain(at, "bert", "mean", dense(), base.Normalize()),
    "Dense, not normalised": lambda at: chain(at, "distilbert", "cls", dense()),
    "two Dense": lambda at: chain(at, "roberta", "mean", dense(20), base.Dense(20, 8)),
    "LayerNorm": lambda at: chain(at, "bert", "mean", modules.LayerNorm(32)),
    "max": lambda at: chain(at, "mpnet", "max"),
    "mean and cls": lambda at: chain(at, "bert", ("mean", "cls"), base.Normalize()),
    "weighted mean": lambda at: chain(at, "qwen2", "weightedmean"),
    "mean by the root": lambda at: chain(at, "electra", "mean_sqrt_len_tokens"),
}


@pytest.mark.parametrize("kind", OF_THE_REFERENCE)
def test_what_only_the_reference_has_is_run_by_it(tmp_path: Path, kind: str) -> None:
    folder = OF_THE_REFERENCE[kind](tmp_path)
    vectors, facts = served(folder, tmp_path)
    assert facts["backend"] == "reference"
    np.testing.assert_allclose(vectors, expected(folder), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet", "electra", "qwen2"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_a_plain_chain_is_run_by_a_faster_backend(tmp_path: Path, kind: str, pooling: str) -> None:
    folder = make_tiny(tmp_path, kind, pooling, normalize=pooling != "cls")
    vectors, facts = served(folder, tmp_path, backend="torch")
    assert facts["backend"] == "torch"
    assert facts["reference_distance"] < 1e-4
    np.testing.assert_allclose(vectors, expected(folder), rtol=1e-4, atol=1e-5)


def test_upper_case_is_lowered_where_the_files_say_so(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    file = folder / "sentence_bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": True}))
    started = runner(folder, tmp_path, backend="torch")
    started.warm_up()
    upper, lower = np.asarray(started.run(["ONE Two", "one two"]))
    np.testing.assert_allclose(upper, lower, atol=1e-6)


def test_a_pooling_that_is_set_wins(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=False)
    as_cls = chain(tmp_path / "cls", "bert", "cls")
    vectors, facts = served(folder, tmp_path, pooling="cls")
    assert (facts["pooling"], facts["source"]) == ("cls", "BATCHER_POOLING")
    np.testing.assert_allclose(vectors, expected(as_cls), rtol=1e-4, atol=1e-5)
    vectors, facts = served(folder, tmp_path, pooling="max")
    assert facts["backend"] == "reference"


def test_a_pooling_that_the_modules_behind_it_cannot_take_is_refused(tmp_path: Path) -> None:
    folder = chain(tmp_path, "bert", ("mean", "cls"), base.Dense(64, 8))
    with pytest.raises(ModelNotSupported, match=r"makes 32 numbers of a text, and .* take 64"):
        read_spec(folder, pooling="cls")


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_a_decoder_without_a_named_pooling_is_ambiguous(tmp_path: Path, kind: str) -> None:
    plain = make_tiny(tmp_path, kind, "mean", normalize=False).parent / "plain"
    with pytest.raises(ModelNotSupported, match=r"BATCHER_POOLING \(last, mean\)"):
        read_spec(plain)
    assert read_spec(plain, pooling="last").pooling == "last"


def test_an_encoder_without_a_named_pooling_is_served_as_the_library_does(tmp_path: Path) -> None:
    plain = make_tiny(tmp_path, "bert", "cls", normalize=False).parent / "plain"
    spec = read_spec(plain)
    assert (spec.pooling, spec.source) == ("mean", "architectures in config.json")


def test_a_backend_that_cannot_run_it_is_not_taken(tmp_path: Path) -> None:
    folder = chain(tmp_path, "bert", "mean", dense())
    refused = runner(folder, tmp_path, backend="onnx")
    with pytest.raises(BackendNotAvailable, match="only the reference library does; set"):
        refused.warm_up()
    refused.close()  # which has nothing to close


def changed(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def pickled(folder: Path, state: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")


class RunsCode:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('this ran')",)


def with_nan(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = folder / "model.safetensors"
    state = load_file(weights)
    state["embeddings.word_embeddings.weight"][4] = float("nan")
    save_file(state, weights, metadata={"format": "pt"})


def with_words(folder: Path, *numbers: int) -> None:
    """Of a tokenizer, beside its own."""
    file = folder / "tokenizer.json"
    said = json.loads(file.read_text())
    said["model"]["vocab"] |= {f"word {n}": n for n in numbers}
    file.write_text(json.dumps(said))


def cut(folder: Path, start: bytes, size: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes((start + weights.read_bytes())[:size])


DAMAGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (lambda at: (at / "model.safetensors").unlink(), "no weights"),
    "half of the weights": (lambda at: cut(at, b"", 1000), r"model\.safetensors: damaged, or not"),
    "a pointer": (
        lambda at: cut(at, b"version https://git-lfs.github.com/spec/v1\n", 130),
        r"model\.safetensors: a pointer of Git LFS",
    ),
    "weights of another shape": (
        lambda at: changed(at, intermediate_size=48),
        r"another shape than its config\.json says: .*bias is \[64\], not \[48\]",
    ),
    "an unknown kind of model": (lambda at: changed(at, model_type="berta"), "berta"),
    "a layer more than there is": (
        lambda at: changed(at, num_hidden_layers=3),
        "16 of the model's weights are missing",
    ),
    "NaN": (with_nan, r"not finite.* embeddings\.word_embeddings\.weight"),
    "a pickle that runs code": (
        lambda at: pickled(at, RunsCode()),
        r"pytorch_model\.bin: no state dict, or damaged \(code in a pickle is never run\)",
    ),
    "a pickle of a list": (
        lambda at: pickled(at, [torch.zeros(2)]),
        r"pytorch_model\.bin: no state dict: it holds a list",
    ),
    "a pickle of another kind": (
        lambda at: pickled(at, {"epoch": 3, "model": {"weight": torch.zeros(2)}}),
        "37 of the model's weights are missing",
    ),
    "no pickle": (
        lambda at: ((at / "model.safetensors").rename(at / "pytorch_model.bin"), None)[1],
        r"pytorch_model\.bin: no state dict, or damaged",
    ),
    "a tokenizer of another model": (
        lambda at: with_words(at, *range(9, 99)),
        r"tokenizer\.json: the tokenizer of another model: it has tokens up to 98, and .* 9 rows",
    ),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_folder_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    damage(folder)
    with pytest.raises(ModelNotSupported, match=told) as refused:
        read_spec(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("name", ["OwnModel", "BertForSequenceClassificationOfMine"])
def test_an_unknown_architecture_is_refused_unless_a_file_or_a_setting_decides(
    tmp_path: Path, name: str
) -> None:
    whole = make_tiny(tmp_path, "bert", "cls", normalize=False)
    plain = whole.parent / "plain"
    for folder in (whole, plain):
        changed(folder, architectures=[name])
    assert read_spec(whole).pooling == "cls"
    assert read_spec(plain, "embed").pooling == "mean"
    with pytest.raises(ModelNotSupported, match=f"config.json: .*{name}.* BATCHER_TASK=embed"):
        read_spec(plain)


def test_a_change_of_any_file_is_noticed(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    assert read_spec(folder).pooling == "mean"
    file = folder / "1_Pooling" / "config.json"
    file.write_text(file.read_text().replace('"mean"', '"cls"'))
    assert read_spec(folder).pooling == "cls"
    shutil.rmtree(folder / "1_Pooling")
    with pytest.raises(ModelNotSupported, match="1_Pooling: missing"):
        read_spec(folder)


def with_prompts_of(folder: Path, **prompts: str) -> Path:
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prompts": prompts}))
    return folder


@pytest.mark.parametrize("more", [[], [dense()], [base.Normalize()]])
def test_a_pooling_that_leaves_prompts_out_takes_none(tmp_path: Path, more: list[Any]) -> None:
    folder = chain(tmp_path, "bert", "mean", *more, include_prompt=False)
    spec = read_spec(folder)
    with pytest.raises(ModelNotSupported, match="BATCHER_PROMPT and BATCHER_PROMPTS are not for"):
        with_prompts(spec, "two ", {})
    with pytest.raises(ModelNotSupported, match="leaves the prompt out"):
        read_spec(with_prompts_of(folder, query="two "))


def test_a_router_behind_the_pooling_is_refused(tmp_path: Path) -> None:
    routes = base.Router.for_query_document([dense()], [dense()], default_route="document")
    with pytest.raises(ModelNotSupported, match="a Router"):
        read_spec(chain(tmp_path, "bert", "mean", routes))


def test_labels_that_are_fewer_than_the_logits_are_refused(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "bert")
    config = json.loads((folder / "config.json").read_text())
    labels = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    (folder / "config.json").write_text(json.dumps(config | labels))
    with pytest.raises(ModelNotSupported):
        read_spec(folder)


def test_a_model_that_padding_on_the_left_moves_is_run_with_it_on_the_right(
    tmp_path: Path,
) -> None:
    """GPT-2 counts positions from the padding on, so that even the library's own answers to a batch
    are not those to its texts."""
    folder = make_tiny(tmp_path, "gpt2", "lasttoken", normalize=True)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    vectors, _ = served(folder, tmp_path, backend="torch")
    model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    alone = np.stack([model.encode(text) for text in TEXTS])
    np.testing.assert_allclose(vectors, alone, rtol=1e-4, atol=1e-5)
    assert np.abs(model.encode(TEXTS) - alone).max() > 0.01


def test_a_weight_of_a_head_that_is_no_number_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_classifier(tmp_path, "bert")
    state = load_file(folder / "model.safetensors")
    state["classifier.bias"][1] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelNotSupported, match=r"not finite .*: its weight classifier\.bias is not"
    ):
        read_spec(folder)
