"""What is wrong with a folder that the reference cannot load: which file, in one line. Looked for
only once it has failed: the libraries' own words name no file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
import transformers

from batcher.failures import explain
from service.models.heads import HEADS
from service.repository.folder import ModelFolder

_POINTER = b"version https://git-lfs"


def find_damage(read: ModelFolder) -> str:
    """Empty: nothing that is known here."""
    return _of_files(read.encoder) or _of_shapes(read)


def _of_files(place: Path) -> str:
    tensors = sorted(place.glob("model*.safetensors"))
    files = tensors or sorted(place.glob("pytorch_model*.bin"))
    for file in files:
        try:
            with file.open("rb") as opened:
                starts = opened.read(len(_POINTER))
            if starts == _POINTER:
                return f"{file}: a pointer of Git LFS, not the weights: git lfs pull fetches them"
            if tensors:
                with safetensors.safe_open(file, "pt"):
                    continue
            state = torch.load(file, map_location="meta", weights_only=True)
        except Exception as error:  # whatever the bytes lead these libraries to
            if tensors or isinstance(error, OSError):
                return f"{file}: damaged, or not all of it can be read: {explain(error)}"
            return f"{file}: no state dict, or damaged (code in a pickle is never run)"
        if not isinstance(state, Mapping):
            return f"{file}: no state dict: it holds a {type(state).__name__}"
    return ""


def _of_shapes(read: ModelFolder) -> str:
    kind = HEADS[read.task].auto_class if read.task in HEADS else "AutoModel"
    try:
        _, info = getattr(transformers, kind).from_pretrained(
            read.encoder,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception:  # told already, by what failed first
        return ""
    wrong = sorted(info["mismatched_keys"])
    if not wrong:
        return ""
    name, found, wanted = wrong[0]
    return (
        f"{read.encoder}: {len(wrong)} of the model's weights have another shape than its"
        f" config.json says: {name} is {list(found)}, not {list(wanted)}"
    )
