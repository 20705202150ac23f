"""What can be said of a model's folder before anything is loaded: what it is for, and what is
missing, ambiguous or not to be trusted. Reads JSON and file names only."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.repository.architecture import Task, choose_task, dropped_head
from service.repository.hub import SHARDS
from service.repository.json_files import ModelNotSupported, read_json, read_object

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model")
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_LIBRARY = "sentence_transformers."
SPARSE = "SpladePooling"
_SAVED_WITH_MODULES = ("config_sentence_transformers.json", "sentence_bert_config.json")
# `model_type`, by the class of the library that has saved a model.
_SENTENCE_ENCODER, _CROSS_ENCODER = "SentenceTransformer", "CrossEncoder"
_SPARSE_ENCODER = "SparseEncoder"
_SPARSE_MODULES = frozenset({SPARSE, "SparseAutoEncoder"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the settings ask of a model."""

    task: str = "auto"
    pooling: str = "auto"
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class ModelFolder:
    whole: Path
    encoder: Path  # of the transformer among its modules; else the same
    config: Mapping[str, Any]  # the encoder's config.json
    task: Task
    modules: tuple[str, ...]  # by sentence-transformers' modules.json: Transformer, Pooling, …
    has_own_code: bool  # and it is trusted
    dropped_head: str  # the architecture whose head is left out; empty: none
    paths: tuple[Path, ...] = ()  # of the modules, in their order

    @property
    def is_splade(self) -> bool:
        return SPARSE in self.modules

    @property
    def names_pooling(self) -> bool:
        return len(self.modules) > 1


def read_folder(folder: Path, wanted: Wanted) -> ModelFolder:
    """Raises ModelNotSupported: one line, which file, and the setting that decides."""
    modules = modules_of(folder)
    encoder = folder / modules[0][1] if modules else folder
    file = encoder / "config.json"
    config = read_object(file)
    has_own_code = _own_code(folder, encoder, config, modules, wanted)
    kinds = tuple(kind.rpartition(".")[2] for kind, _ in modules)
    about = read_object(folder / "config_sentence_transformers.json", optional=True)
    is_sparse = SPARSE in kinds or (bool(kinds) and about.get("model_type") == _SPARSE_ENCODER)
    is_sentence_encoder = len(kinds) > 1 and not is_sparse
    _check_type(folder, kinds)
    check_adapter(folder, encoder)
    task = choose_task(
        wanted.task,
        config,
        file,
        is_sentence_encoder=is_sentence_encoder,
        is_sparse_encoder=is_sparse,
    )
    _check_files(encoder)
    if task == "embed" and not modules and wanted.pooling == "auto":
        about_vectors = (folder / name for name in _SAVED_WITH_MODULES)
        for file in (*sorted(folder.glob("*_Pooling/config.json")), *about_vectors):
            if file.is_file():
                raise ModelNotSupported(
                    f"{folder / 'modules.json'}: missing, although there is"
                    f" {file.relative_to(folder)}; BATCHER_POOLING (mean, cls, last) says how this"
                    " model's vectors are made"
                )
    dropped = dropped_head(config) if task == "embed" and not is_sentence_encoder else ""
    paths = tuple(folder / path for _, path in modules)
    return ModelFolder(folder, encoder, config, task, kinds, has_own_code, dropped, paths)


def modules_of(folder: Path) -> list[tuple[str, str]]:
    """The type and the folder of each module; empty: sentence-transformers has not saved this."""
    file = folder / "modules.json"
    if not file.is_file():
        return []
    try:
        chain = [(str(each["type"]), str(each["path"])) for each in read_json(file)]
    except (KeyError, TypeError) as error:
        raise ModelNotSupported(f"{file}: not a list of modules") from error
    if not chain:
        raise ModelNotSupported(f"{file}: names no module")
    for kind, path in chain:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ModelNotSupported(f"{file}: {kind} is outside of the model's folder")
        # Normalize has no files of its own, and git keeps no empty folder.
        if not (folder / path).is_dir() and kind.rpartition(".")[2] != "Normalize":
            raise ModelNotSupported(f"{folder / path}: missing, and modules.json names it")
    return chain


def _check_type(folder: Path, kinds: tuple[str, ...]) -> None:
    """Raises ModelNotSupported for what the library saved as something else than its modules look
    like: it would make a sentence encoder of it, whose vectors mean nothing."""
    file = folder / "config_sentence_transformers.json"
    saved_as = read_object(file, optional=True).get("model_type") or _SENTENCE_ENCODER
    chain = " → ".join(kinds)
    if saved_as == _CROSS_ENCODER and len(kinds) > 1:
        raise ModelNotSupported(
            f"{folder / 'modules.json'}: a cross-encoder of {chain} is not supported (one that is a"
            " text classifier alone is)"
        )
    if saved_as == _SPARSE_ENCODER and kinds and _SPARSE_MODULES.isdisjoint(kinds):
        raise ModelNotSupported(
            f"{folder / 'modules.json'}: a sparse encoder of {chain} is not supported (one with a"
            f" {' or '.join(sorted(_SPARSE_MODULES))} is)"
        )
    if saved_as not in (_SENTENCE_ENCODER, _CROSS_ENCODER, _SPARSE_ENCODER):
        raise ModelNotSupported(f"{file}: model_type {saved_as} is not supported")


def check_adapter(*folders: Path) -> None:
    """Raises ModelNotSupported for weights that only PEFT adds to the model's own: where it is not
    installed, transformers leaves them out in silence."""
    for file in (folder / "adapter_config.json" for folder in folders):
        if file.is_file() and importlib.util.find_spec("peft") is None:
            raise ModelNotSupported(
                f"{file}: an adapter needs the package peft, which is not installed (or merge it"
                " into the model's weights)"
            )


def _own_code(
    folder: Path,
    encoder: Path,
    config: Mapping[str, Any],
    modules: list[tuple[str, str]],
    wanted: Wanted,
) -> bool:
    found = [f"{folder / 'modules.json'}: {kind}" for kind, _ in modules if _is_foreign(kind)]
    if "auto_map" in config:
        found.append(f"{encoder / 'config.json'}: auto_map")
    tokenizer = encoder / "tokenizer_config.json"
    if "auto_map" in read_object(tokenizer, optional=True):
        found.append(f"{tokenizer}: auto_map")
    if found and not wanted.trust_remote_code:
        raise ModelNotSupported(
            f"{found[0]} names code of the model's own, which is not run unless you trust it:"
            " BATCHER_TRUST_REMOTE_CODE=true runs it, with all the rights of this service"
        )
    return bool(found)


def _is_foreign(kind: str) -> bool:
    return not kind.startswith(_LIBRARY)


def _check_files(encoder: Path) -> None:
    index = encoder / SHARDS
    if index.is_file():
        shards = read_object(index).get("weight_map")
        if not isinstance(shards, dict):
            raise ModelNotSupported(f"{index}: no weight_map")
        for shard in sorted(set(map(str, shards.values()))):
            if not (encoder / shard).is_file():
                raise ModelNotSupported(f"{encoder / shard}: missing, and {SHARDS} names it")
    elif not any(any(encoder.glob(pattern)) for pattern in _WEIGHTS):
        raise ModelNotSupported(f"{encoder}: no weights (model.safetensors or pytorch_model.bin)")
    if not any((encoder / name).is_file() for name in TOKENIZERS):
        raise ModelNotSupported(f"{encoder}: no tokenizer ({', '.join(TOKENIZERS)})")
