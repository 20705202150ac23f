"""OpenVINO on a CPU: the exported graph in float32, or in bfloat16 where the processor has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from batcher.failures import is_out_of_memory
from service.models.backends import (
    Answers,
    BackendNotAvailable,
    Ids,
    Place,
    Rows,
    Say,
    Tokens,
    Types,
)
from service.models.backends.extras import check_packages
from service.models.backends.onnx.export import (
    Numbers,
    RunGraph,
    exporter,
    graph_key,
    inputs_of,
    outputs_of,
    torch_versions,
)
from service.models.backends.onnx.store import graph
from service.models.config import ModelConfig
from service.models.precision import choose_dtype, name_of
from service.models.rows import Matrix, Padded, own_rows, pad
from service.repository.spec import EncoderSpec

HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoBackend:
    """One rectangle for each batch, as torch has it."""

    name = "openvino"

    def __init__(self, request: Any, spec: EncoderSpec, dtype: str, place: Place) -> None:
        self._request = request
        self._pad_id = spec.pad_id
        self._inputs = inputs_of(spec)
        self._place = place
        self.dtype = dtype
        self.versions = versions()

    def facts(self) -> Mapping[str, object]:
        return {
            "device": self._place.device,
            "threads": self._place.threads,
            "versions": self.versions,
        }

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        return self._run(1, pad(sequences, self._pad_id, types=types))[0]

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        batch, places = pad(sequences, self._pad_id), list(wanted)
        answers, states = self._run(2, batch)
        return answers, own_rows(states[places], batch.mask[places])

    def _run(self, outputs: int, batch: Padded) -> list[Rows]:
        """The first so many. Raises MemoryError."""
        try:
            return _run(self._request, batch.named(self._inputs), outputs)
        except RuntimeError as error:
            if not (is_out_of_memory(error) or "bad_alloc" in str(error)):
                raise
            why = " ".join(str(error).split())
        raise MemoryError(f"{len(batch.ids)} inputs do not fit: {why}")

    def close(self) -> None:
        self._request = None


def open_openvino(
    config: ModelConfig, spec: EncoderSpec, place: Place, say: Say
) -> OpenVinoBackend:
    """Raises BackendNotAvailable (ExportFailed is one), ModelNotSupported."""
    check_packages("openvino")
    if place.device != "cpu":
        raise BackendNotAvailable(f"backend openvino runs on a CPU, not on {place.device}")
    native, name = place.native_bf16, config.dtype
    if name == "auto":
        name = name_of(choose_dtype(name, "cpu", native))
    if name not in HINTS or (name == "bfloat16" and not native):
        raise BackendNotAvailable(
            f"backend openvino runs float32, and bfloat16 where the processor has it, not {name}"
        )
    with graph(config.cache_dir, graph_key(spec), exporter(spec, _on_cpu(spec), say), say) as path:
        return OpenVinoBackend(_request(path, place.threads, name), spec, name, place)


def versions() -> str:
    return f"openvino {_openvino().__version__}, {torch_versions()}"


def _openvino() -> Any:
    """Its telemetry asks for the home folder: the import would raise for a user id without a name,
    as in many containers, which has none."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/nonexistent"  # by convention nothing is there
    import openvino

    return openvino


def _on_cpu(spec: EncoderSpec) -> RunGraph:
    def load(path: Path) -> Callable[[Padded], Sequence[Numbers]]:
        request = _request(path, torch.get_num_threads(), "float32")
        outputs = len(outputs_of(spec))
        return lambda batch: _run(request, batch.named(inputs_of(spec)), outputs)

    return load


def _request(path: Path, threads: int, dtype: str) -> Any:
    core = _openvino().Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # which cores are a replica's own is settled before this
        "INFERENCE_PRECISION_HINT": HINTS[dtype],
    }
    # Read whole: the file may be gone, or another, before the model is done with it.
    model = core.read_model(path.read_bytes(), b"")
    return core.compile_model(model, "CPU", options).create_infer_request()


def _run(request: Any, inputs: Mapping[str, Matrix], outputs: int) -> list[Rows]:
    found = request.infer(inputs, share_inputs=True, share_outputs=True)
    # Copies, of those that are asked for: the next batch writes over these.
    return [np.array(found[place], dtype=np.float32) for place in range(outputs)]
