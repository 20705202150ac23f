"""The JSON files of a model's folder, read with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.errors import CannotServe


class ModelNotSupported(CannotServe):
    """The model is there and this service cannot run it. One line: which file says so."""


def read_object(file: Path, *, optional: bool = False) -> dict[str, Any]:
    """`optional`: empty where there is no such file. Raises ModelNotSupported."""
    if optional and not file.is_file():
        return {}
    value = read_json(file)
    if not isinstance(value, dict):
        raise ModelNotSupported(f"{file}: not a JSON object")
    return value


def part_of(config: Mapping[str, Any], name: str, file: Path) -> Mapping[str, Any]:
    """An object in a file's object; empty where there is none. Raises ModelNotSupported."""
    value = config.get(name)
    if not isinstance(value, Mapping | None):
        raise ModelNotSupported(f"{file}: {name} is not a JSON object")
    return value or {}


def read_json(file: Path) -> Any:
    """Raises ModelNotSupported."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelNotSupported(f"{file}: cannot be read: {error}") from error
