"""Templates of paths, such as `/v1/models/{model}`: what belongs to a path that fits one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Generic, TypeVar

Value = TypeVar("Value")

_PARAMETER = re.compile(r"\{(\w+)\}")
_REMEMBERED = 256  # paths


def parameters_of(path: str) -> list[str]:
    """The names of a template's parameters; empty: it is a path as it stands."""
    return _PARAMETER.findall(path)


class Templates(Generic[Value]):
    def __init__(self, values: Mapping[str, Value]) -> None:
        """By path, of which those without parameters are left out. Any text is a parameter, a slash
        too; of several templates that a path fits, the longest counts, parameters left out."""
        templates = [path for path in values if parameters_of(path)]
        templates.sort(key=lambda path: len(_PARAMETER.sub("", path)), reverse=True)
        self._fitting = [
            (re.compile(".*".join(map(re.escape, _fixed(path))), re.DOTALL), values[path])
            for path in templates
        ]
        self.find = lru_cache(_REMEMBERED)(self._find)

    def _find(self, path: str) -> Value | None:
        return next((value for fits, value in self._fitting if fits.fullmatch(path)), None)


def _fixed(path: str) -> list[str]:
    """What stands between the parameters."""
    return re.split(r"\{\w+\}", path)
