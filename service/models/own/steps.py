"""The steps that a Model takes with one input alone, wherever they run."""

from __future__ import annotations

from typing import Any

from batcher import Model
from service.models.own.values import check_size, plain
from service.tasks.packed import unpack_request


def prepared(model: Model, payload: Any) -> Any:
    return plain(model.preprocess(unpack_request(payload)), "preprocess")


def finished(model: Model, output: Any, limit: int) -> Any:
    return check_size(plain(model.postprocess(output), "postprocess"), limit)


def overrides(model: Model, method: str) -> bool:
    """Has it one of its own?"""
    return getattr(type(model), method) is not getattr(Model, method)
