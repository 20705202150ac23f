"""The model as transformers builds it, in the precision that was asked for, and checked against
float32: what moves its answers too far is not used, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

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
        )
    except Exception as error:  # the library raises whatever a damaged file leads it to
        raise ModelNotSupported(f"{spec.folder}: cannot be loaded: {explain(error)}") from error
    if missing := sorted(info["missing_keys"]):
        # transformers fills what is missing with random numbers.
        raise ModelNotSupported(
            f"{spec.folder}: {len(missing)} of the model's weights are missing, {missing[0]} first"
        )
    loaded: torch.nn.Module = model.eval().requires_grad_(False).to(device)
    return loaded


def reduced(
    model: Any,
    head: Head,
    config: ModelConfig,
    device: torch.device,
    answers: Callable[[], Rows],
    say: Callable[[str], None],
) -> tuple[torch.dtype, dict[str, object]]:
    """Brings the model to the dtype of the settings, and says which it is and how close it is to
    float32. `answers` runs the model on its samples. `auto` goes back where that is too far, and
    stays in float32 on a CPU; a dtype that was asked for raises TooInaccurate then."""
    if config.dtype == "int8":
        raise CannotServe("BATCHER_DTYPE=int8 is not for image models")
    if config.dtype == "auto" and device.type == "cpu":
        return torch.float32, {}
    dtype = choose_dtype(config.dtype, device.type, has_native_bf16(device))
    floor = head.measure.floor(name_of(dtype), config.min_cosine)
    if floor is None:
        return torch.float32, {}
    exact = answers()
    whole = {name: each.clone() for name, each in model.state_dict().items()}
    model.to(dtype)
    agreement = head.measure.agreement(answers(), exact)
    if np.isfinite(agreement) and agreement >= floor:
        return dtype, {head.measure.name: agreement}
    said = (
        f"{name_of(dtype)} moves this model's answers too far: {head.measure.name}"
        f" {agreement:.4f} to float32, where {floor:g} is asked for"
    )
    if config.dtype != "auto":
        raise TooInaccurate(f"{said}; set BATCHER_DTYPE=float32")
    say(f"{said}; it runs in float32")
    model.to(torch.float32)
    model.load_state_dict(whole)
    return torch.float32, {}
