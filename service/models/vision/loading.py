"""The model as transformers builds it, in the precision that was asked for, and checked against
float32: what moves its answers too far is not used, or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from safetensors import SafetensorError

from batcher.failures import explain
from service.errors import CannotServe
from service.models.backends.accuracy import TooInaccurate
from service.models.config import ModelConfig
from service.models.measures import Rows
from service.models.precision import choose_dtype, has_native_bf16, name_of
from service.models.vision.heads import Head
from service.repository.json_files import ModelNotSupported
from service.repository.vision import VisionSpec


def load(spec: VisionSpec, head: Head, device: torch.device) -> torch.nn.Module:
    """In float32, to run and never to train. Raises ModelNotSupported."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, head.auto_class).from_pretrained(
            spec.folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
        )
    except SafetensorError as error:
        raise ModelNotSupported(
            f"{spec.folder}: its model.safetensors is damaged: {error}"
        ) from error
    except Exception as error:  # the library raises whatever a damaged file leads it to
        raise ModelNotSupported(f"{spec.folder}: cannot be loaded: {explain(error)}") from error
    if wrong := sorted(info["mismatched_keys"]):
        name, found, wanted = wrong[0]
        raise ModelNotSupported(
            f"{spec.folder}: {len(wrong)} of the model's weights have another shape than its"
            f" config.json says: {name} is {list(found)}, not {list(wanted)}"
        )
    if missing := sorted(info["missing_keys"]):
        # transformers fills what is missing with random numbers.
        raise ModelNotSupported(
            f"{spec.folder}: {len(missing)} of the model's weights are missing, {missing[0]} first"
        )
    loaded: torch.nn.Module = model.eval().requires_grad_(False).to(device)
    return loaded


# What runs is the reference itself.
_EXACT: Mapping[str, object] = {"reference_distance": 0.0}


class Opened(NamedTuple):
    model: Any
    dtype: torch.dtype
    facts: Mapping[str, object]  # how close it is to float32


def open_model(
    spec: VisionSpec,
    head: Head,
    config: ModelConfig,
    device: torch.device,
    answers: Callable[[Any, torch.dtype], Rows],
    say: Callable[[str], None],
) -> Opened:
    """In the dtype of the settings. `answers` runs a model, which has that dtype, on a few inputs.

    `auto` stays in float32 on a CPU, and goes back to it where another dtype moves the answers too
    far; one that was asked for raises TooInaccurate then. Raises ModelNotSupported for a model
    whose answers are no numbers even in float32."""
    if config.dtype == "int8":
        raise CannotServe("BATCHER_DTYPE=int8 is not for image models")
    model = load(spec, head, device)
    exact = answers(model, torch.float32)
    if not np.isfinite(exact).all():
        raise ModelNotSupported(f"{spec.folder}: its answers are not finite (NaN or infinity)")
    if config.dtype == "auto" and device.type == "cpu":
        return Opened(model, torch.float32, _EXACT)
    dtype = choose_dtype(config.dtype, device.type, has_native_bf16(device))
    floor = head.measure.floor(name_of(dtype), config.min_cosine)
    if floor is None:
        return Opened(model, torch.float32, _EXACT)
    model.to(dtype)
    agreement = head.measure.agreement(answers(model, dtype), exact)
    if np.isfinite(agreement) and agreement >= floor:
        return Opened(model, dtype, {head.measure.name: agreement})
    said = (
        f"{name_of(dtype)} is not accurate enough for this model: {head.measure.name}"
        f" {agreement:.4f} to float32, where {floor:g} is asked for"
    )
    if config.dtype != "auto":
        raise TooInaccurate(f"{said}; set BATCHER_DTYPE=float32")
    say(f"{said}; it runs in float32")
    return Opened(load(spec, head, device), torch.float32, _EXACT)
