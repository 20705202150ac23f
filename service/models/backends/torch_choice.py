"""How torch runs the model here: packed on a CPU where the model allows it, else as it comes."""

from __future__ import annotations

import torch

from batcher.runner import explain
from service.models import RunnerConfig
from service.models.backends import Backend, BackendNotAvailable, Place, Say
from service.models.backends.torch_bert import PackedBert, why_not
from service.models.backends.torch_eager import TorchBackend, load
from service.models.backends.torch_packed import CLOSE, PackedBackend, difference
from service.models.devices import choose_dtype, has_native_bf16
from service.models.spec import EncoderSpec


def open_torch(config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say) -> Backend:
    """Raises BackendNotAvailable for what torch does not run, ModelNotSupported."""
    device = torch.device(place.device)
    if config.dtype == "int8":
        raise BackendNotAvailable("dtype int8 is run by backend onnx or openvino, not by torch")
    dtype = choose_dtype(config.dtype, device.type, has_native_bf16(device))
    eager = TorchBackend(load(spec, device, dtype), spec, device)
    if config.compile:
        say("BATCHER_COMPILE=on is not built in yet: the model runs as it is")
    return _packed(eager, spec, say) if device.type == "cpu" else eager


def _packed(eager: TorchBackend, spec: EncoderSpec, say: Say) -> Backend:
    """Never slower where it was measured (README), and up to 5 times faster on mixed lengths."""
    reason = why_not(eager.model.config)
    if not reason and eager.dtype not in CLOSE:
        reason = f"{eager.dtype} on a CPU"
    if reason:
        say(f"batches are padded: {reason}")
        return eager
    try:
        packed = PackedBackend(PackedBert(eager.model), spec, eager)
        apart = difference(packed, eager, spec)
        if not apart <= CLOSE[eager.dtype]:
            raise ValueError(f"answers that are {apart:.2g} apart")
    except Exception as error:  # of torch or transformers in a version that nobody has tried
        say(f"batches are padded: packed they fail ({explain(error)})")
        return eager
    return packed
