"""A model of the Hugging Face hub: out of the hub's local cache where all of it is there, else from
the hub itself, whose client is imported where it is needed: 0.5 s."""

from __future__ import annotations

import json
from pathlib import Path

FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py")  # what is not trusted is not run
WEIGHTS = ("model*.safetensors", "*_*/model*.safetensors")  # of modules, too
OLD_WEIGHTS = "pytorch_model*.bin"  # where there are no others; PyTorch reads tensors alone of them
ELSEWHERE = ["onnx/*", "openvino/*", "coreml/*"]  # the same model again, for other engines
SHARDS = "model.safetensors.index.json"
# A model without them means something else.
_DECISIVE = ("modules.json", "config_sentence_transformers.json")


class NotThere(Exception):
    """One line: what the cache has, and what the hub said."""


def is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()


def cached_folder(name: str) -> Path | None:
    """Where the cache has it, as far as it goes."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and has_weights(folder) else None


def fetch(name: str, revision: str | None) -> Path:
    """May download. Raises NotThere."""
    reasons = []
    for local in (True, False):
        try:
            folder = _snapshot(name, revision, (), local=local)
            folder = _snapshot(name, revision, _old_weights(folder), local=local)
        except Exception as error:  # the hub's client has a dozen ways to say no
            # Of the local cache the client says what a programmer should do.
            reasons.append("not in the local cache" if local else f"hub: {_first_line(error)}")
            continue
        if not (is_model(folder) and has_weights(folder)):
            reasons.append("incomplete in the local cache" if local else "hub: without weights")
        elif not _is_all_known(name, folder):
            # Without a word of the hub its client answers with what the cache has.
            reasons.append(_incomplete(folder) if local else "hub: cannot be reached")
        else:
            return folder
    raise NotThere(", ".join(reasons))


def _incomplete(folder: Path) -> str:
    return (
        "in the local cache by another program, which may have left out files that say what it is"
        f" (BATCHER_MODEL={folder} serves what is there)"
    )


def has_weights(folder: Path) -> bool:
    """Of its transformer."""
    for place in (folder, *folder.glob("0_*")):
        if (place / SHARDS).is_file():
            return _has_all(place)
        if any(place.glob("model*.safetensors")) or any(place.glob(OLD_WEIGHTS)):
            return True
    return False


def _snapshot(name: str, revision: str | None, more: tuple[str, ...], *, local: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            name,
            revision=revision,
            allow_patterns=[*FILES, *WEIGHTS, *more],
            ignore_patterns=ELSEWHERE,
            local_files_only=local,
        )
    )


def _old_weights(folder: Path) -> tuple[str, ...]:
    """Of each part that has no others: often a Dense beside a transformer that was converted."""
    parts = ("", *(f"{each.name}/" for each in folder.glob("*_*") if each.is_dir()))
    without = (part for part in parts if not any((folder / part).glob("model*.safetensors")))
    return tuple(f"{part}{OLD_WEIGHTS}" for part in without)


def _is_all_known(name: str, folder: Path) -> bool:
    """Is what this folder of the cache lacks known not to be on the hub? Another program, such as
    transformers, fetches only what it reads itself: without modules.json a model of any pooling
    would be taken for one of the usual pooling."""
    from huggingface_hub import get_cached_repo_tree, try_to_load_from_cache
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    commit = folder.name
    try:
        get_cached_repo_tree(name, revision=commit)  # then the client has compared the two
    except CachedRepoTreeNotFoundError:
        found = (try_to_load_from_cache(name, each, revision=commit) for each in _DECISIVE)
        return all(each is not None for each in found)  # there, or noted as missing
    return True


def _has_all(place: Path) -> bool:
    try:
        shards = set(json.loads((place / SHARDS).read_text())["weight_map"].values())
        return all((place / shard).is_file() for shard in shards)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return True  # damaged: see folder.py, which says so


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
