"""A torch model in half precision of which some blocks stay in float32. See accuracy.py."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch


def blocks_of(model: torch.nn.Module) -> tuple[str, ...]:
    """The names of the model's embeddings and of its layers: the longest list of modules in it."""
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList)
    }
    layers = max(lists, key=lambda name: len(lists[name]), default="")
    named = [f"{layers}.{i}" for i in range(len(lists[layers]))] if layers else []
    tables = (name for name, _ in model.named_modules() if name.split(".")[-1] == "embeddings")
    return (*[name for name in [next(tables, "")] if name], *named)


def dtype_of(model: torch.nn.Module) -> torch.dtype:
    """What it computes in, but for the blocks that were kept."""
    found = (p.dtype for p in model.parameters() if p.dtype != torch.float32)
    return next(found, torch.float32)


def to_half(model: torch.nn.Module, dtype: torch.dtype, kept: Collection[str]) -> torch.nn.Module:
    """The float32 model itself, in `dtype` but for the `kept` blocks, which take and give `dtype`
    and compute in float32."""
    whole = {name: copy.deepcopy(model.get_submodule(name)) for name in kept}
    model.to(dtype)
    for name, block in whole.items():
        block.register_forward_pre_hook(_widen, with_kwargs=True)
        block.register_forward_hook(lambda _, __, output: _cast(output, dtype))
        model.set_submodule(name, block)
    return model


def _widen(_: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    return _cast(args, torch.float32), _cast(kwargs, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Every tensor of floats in it; whole numbers and everything else as they are."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _cast(each, dtype) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_cast(each, dtype) for each in value)
    return value
