"""What a sparse encoder's files say of its pooling: SpladePooling of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from service.repository.json_files import ModelNotSupported, read_object

SpladePooling = Literal["max", "sum"]
SpladeActivation = Literal["relu", "log1p_relu"]


def read_splade(module: Path, whole: Mapping[str, Any], whole_file: Path) -> dict[str, Any]:
    """The fields of a spec. `module`: the folder of the SpladePooling; `whole`: what is said of all
    modules together. Raises ModelNotSupported."""
    file = module / "config.json"
    config = read_object(file)
    pooling = config.get("pooling_strategy", "max")
    activation = config.get("activation_function", "relu")
    if pooling not in get_args(SpladePooling) or activation not in get_args(SpladeActivation):
        raise ModelNotSupported(f"{file}: the {pooling} of {activation} is not supported")
    most = whole.get("max_active_dims")
    if not (most is None or (type(most) is int and most > 0)):
        raise ModelNotSupported(f"{whole_file}: max_active_dims is {most!r}, not a positive number")
    return {"splade_pooling": pooling, "splade_activation": activation, "max_active": most}
