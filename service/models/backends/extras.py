"""Optional packages: whether they are there, and which extra brings them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from service.errors import how_to_install
from service.models.backends import BackendNotAvailable

NEEDED = {"onnx": ("onnxruntime", "onnx"), "openvino": ("openvino", "onnx")}  # by extra


def missing(extra: str) -> Sequence[str]:
    return [name for name in NEEDED.get(extra, ()) if importlib.util.find_spec(name) is None]


def check_packages(extra: str) -> None:
    """Raises BackendNotAvailable that names the extra."""
    if absent := missing(extra):
        raise BackendNotAvailable(
            f"backend {extra} needs {' and '.join(absent)}: {how_to_install(extra)}"
        )
