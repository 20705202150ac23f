"""A model of the user's own, as the service runs it: a function from inputs to outputs."""

from __future__ import annotations

from collections.abc import Sequence


def echo(inputs: Sequence[object]) -> Sequence[object]:
    return list(inputs)
