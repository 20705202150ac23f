"""Which backend runs the model: the one that BATCHER_BACKEND names, or one that is chosen here."""

from __future__ import annotations

from service.models import RunnerConfig
from service.models.backends import Backend, BackendNotAvailable, Place, Say
from service.models.backends.torch_choice import open_torch
from service.models.spec import EncoderSpec

BACKENDS = ("auto", "torch", "onnx", "openvino")


def open_backend(config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say) -> Backend:
    """Raises BackendNotAvailable, and what the backend raises as it loads the model."""
    if config.backend not in BACKENDS:
        raise ValueError(f"backend {config.backend!r} is not one of {', '.join(BACKENDS)}")
    if config.backend in ("auto", "torch"):
        return open_torch(config, spec, place, say)
    raise BackendNotAvailable(
        f"backend {config.backend!r} is not built in yet: write auto or torch"
    )
