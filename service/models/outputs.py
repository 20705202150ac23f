"""Answers that are numbers all through, and an error for each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from service.models.measures import Answers


class NotFinite(ValueError):
    """The model's answer to this input holds a NaN or an infinity."""


def is_finite(answers: Answers) -> bool:
    if isinstance(answers, list):
        return all(np.isfinite(each).all() for each in answers)
    return bool(np.isfinite(answers).all())


def check_finite(answers: Answers) -> Sequence[Any]:
    """The answers themselves, or a list of them in which each bad one is a NotFinite."""
    if is_finite(answers):
        return cast(Sequence[Any], answers)
    return [
        each
        if np.isfinite(each).all()
        else NotFinite("the model's answer to this input is not finite (NaN or infinity)")
        for each in answers
    ]
