"""How torch runs the model here: without padding on a CPU, queued on a CUDA device, where the model
allows it; else as it comes. What fails here is said, and the next best runs.
"""

from __future__ import annotations

import torch

from batcher.failures import explain
from service.models.backends import Backend, BackendNotAvailable, Place, Say
from service.models.backends.torch.agreement import COMPARED, check_agrees
from service.models.backends.torch.bert import Bert, why_not
from service.models.backends.torch.compiled import compile_backend
from service.models.backends.torch.cuda import CudaBackend
from service.models.backends.torch.cuda_graphs import capture_graphs, cuda_streams
from service.models.backends.torch.eager import TorchBackend, load
from service.models.backends.torch.mixed_precision import to_half
from service.models.backends.torch.packed import PackedBackend
from service.models.backends.torch.padded import Encode
from service.models.config import ModelConfig
from service.models.heads import VectorHead, head_of, vector_head_of
from service.models.precision import choose_dtype
from service.repository.spec import EncoderSpec


def open_torch(config: ModelConfig, spec: EncoderSpec, place: Place, say: Say) -> Backend:
    """Raises BackendNotAvailable for what torch does not run, ModelNotSupported."""
    device = torch.device(place.device)
    if config.dtype == "int8":
        raise BackendNotAvailable("dtype int8 is run by backend onnx, not by torch")
    dtype = choose_dtype(config.dtype, device.type, place.native_bf16)
    if kept := config.float32_blocks:
        model = to_half(load(spec, device, torch.float32), dtype, kept)
        return TorchBackend(model, spec, device)
    eager = TorchBackend(load(spec, device, dtype), spec, device)
    if config.compile and compile_backend(eager, spec, config.cache_dir, say):
        return eager
    reason = why_not(eager.model.config)
    if not isinstance(head_of(spec), VectorHead) and device.type != "cpu":
        reason = f"task {spec.task} is not queued on {place.device}"
    if not reason and eager.dtype not in COMPARED:
        reason = f"{eager.dtype} on {place.device}"
    if not reason and device.type == "cuda" and spec.pairs_have_types:
        reason = f"its pairs have token types, which are not queued on {place.device}"
    if reason:
        say(f"using the model's own PyTorch code: {reason}")
        return eager
    try:
        if device.type == "cpu":
            return _packed(eager, spec)
        return _queued(eager, spec, device, config.max_batch_size, say)
    except Exception as error:  # of a version of torch or transformers that was never tested
        say(f"using the model's own PyTorch code: our faster forward pass fails ({explain(error)})")
        return eager


def _packed(eager: TorchBackend, spec: EncoderSpec) -> Backend:
    """Never slower where it was measured, and up to 5 times faster on mixed lengths."""
    packed = PackedBackend(Bert(eager.model), spec, eager)
    check_agrees(packed, eager, spec)
    return packed


def _queued(
    eager: TorchBackend, spec: EncoderSpec, device: torch.device, most_inputs: int, say: Say
) -> Backend:
    finish, streams = vector_head_of(spec).finish(eager.model, spec), cuda_streams(device)
    encode = Encode(Bert(eager.model), spec, finish)
    queued = CudaBackend(encode, spec, streams, eager)
    check_agrees(queued, eager, spec)
    try:
        capture_graphs(queued, encode, streams, spec.max_length, most_inputs, say)
        check_agrees(queued, eager, spec)
    except Exception as error:
        queued.graphs.clear()
        say(f"no CUDA graphs: {explain(error)}")
    return queued
