"""ONNX Runtime: the exported graph on a CPU, in float32 or int8; CUDA and TensorRT on a GPU.

The GPU providers are not yet verified on a GPU.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from batcher.failures import is_out_of_memory
from service.errors import how_to_install
from service.models.backends import (
    Answers,
    BackendNotAvailable,
    Ids,
    Place,
    Rows,
    Say,
    Tokens,
    Types,
    reference_answers,
)
from service.models.backends.extras import check_packages
from service.models.backends.onnx.export import (
    ANSWERS,
    STATES,
    Numbers,
    RunGraph,
    exporter,
    graph_key,
    inputs_of,
    torch_versions,
)
from service.models.backends.onnx.int8 import SMOOTHING, blocks_of, calibrate, quantise, weight_bits
from service.models.backends.onnx.store import graph
from service.models.config import ModelConfig
from service.models.precision import CPUINFO
from service.models.rows import Padded, own_rows, pad
from service.repository.spec import EncoderSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Provider = tuple[str, dict[str, Any]]
CPU: Provider = ("CPUExecutionProvider", {})
DTYPES = {"cpu": ("float32", "int8"), "cuda": ("float32", "float16")}  # the first is auto's on cpu


class OnnxBackend:
    """One rectangle for each batch, as torch has it."""

    name = "onnx"

    def __init__(
        self,
        session: InferenceSession,
        spec: EncoderSpec,
        dtype: str,
        place: Place,
        blocks: Sequence[str] = (),
    ) -> None:
        self._session: InferenceSession | None = session
        self._pad_id = spec.pad_id
        self._inputs = inputs_of(spec)
        self._place = place
        self.dtype = dtype
        self.versions = versions()
        self.blocks = tuple(blocks)  # what may be kept in float32, for the guard

    def facts(self) -> Mapping[str, object]:
        assert self._session is not None, "facts after close: this is a bug"
        return {
            "device": self._place.device,
            "threads": self._place.threads,
            "provider": self._session.get_providers()[0],
            "versions": self.versions,
        }

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        return self._run([ANSWERS], pad(sequences, self._pad_id, types=types))[0]

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        batch, places = pad(sequences, self._pad_id), list(wanted)
        answers, states = self._run([ANSWERS, STATES], batch)
        return answers, own_rows(states[places], batch.mask[places])

    def _run(self, outputs: list[str], batch: Padded) -> list[Rows]:
        """Raises MemoryError."""
        assert self._session is not None, "forward after close: this is a bug"
        try:
            found = self._session.run(outputs, batch.named(self._inputs))
            return [np.asarray(each, dtype=np.float32) for each in found]
        except Exception as error:  # ONNX Runtime's own types; what they say is all there is
            if not (is_out_of_memory(error) or "Failed to allocate memory" in str(error)):
                raise
            why = " ".join(str(error).split())
        raise MemoryError(f"{len(batch.ids)} inputs do not fit: {why}")

    def close(self) -> None:
        self._session = None


def open_onnx(config: ModelConfig, spec: EncoderSpec, place: Place, say: Say) -> OnnxBackend:
    """Raises BackendNotAvailable (ExportFailed is one), ModelNotSupported."""
    check_packages("onnx")
    dtype = choose_onnx_dtype(config.dtype, place)
    wanted = providers(config, spec, place, dtype)
    cache, known = config.cache_dir, graph_key(spec)
    with graph(cache, known, exporter(spec, on_cpu(spec), say), say) as source:
        if dtype == "float32" or _is_tensorrt(wanted):  # TensorRT makes its own float16
            return OnnxBackend(_session(source, place.threads, wanted), spec, dtype, place)
        kept = sorted(config.float32_blocks)
        if dtype == "float16":
            with graph(cache, {**known, "dtype": dtype}, _halved(source), say) as path:
                return OnnxBackend(_session(path, place.threads, wanted), spec, dtype, place)
        bits = weight_bits(CPUINFO.read_text() if CPUINFO.exists() else "")
        key = {**known, "dtype": dtype, "bits": bits, "smoothing": SMOOTHING}
        # What the guard tries out is not worth keeping, and seldom more than tried out.
        with graph("" if kept else cache, key, _quantised(source, spec, bits, kept), say) as path:
            session = _session(path, place.threads, wanted)
        return OnnxBackend(session, spec, dtype, place, blocks_of(source))


def choose_onnx_dtype(wanted: str, place: Place) -> str:
    """auto: float32 on a CPU, float16 on a GPU. Raises BackendNotAvailable."""
    kind = place.device.partition(":")[0]
    if wanted == "auto":
        return DTYPES[kind][1 if kind == "cuda" else 0]
    if wanted not in DTYPES[kind]:
        can = " and ".join(DTYPES[kind])
        raise BackendNotAvailable(f"backend onnx runs {can} on {kind}, not {wanted}")
    return wanted


def versions() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}, {torch_versions()}"


def on_cpu(spec: EncoderSpec) -> RunGraph:
    def load(path: Path) -> Callable[[Padded], Sequence[Numbers]]:
        session = _session(path, torch.get_num_threads(), [CPU])
        inputs = inputs_of(spec)
        return lambda batch: session.run(None, batch.named(inputs))  # all there are

    return load


def providers(config: ModelConfig, spec: EncoderSpec, place: Place, dtype: str) -> list[Provider]:
    """Best first. TensorRT where its package is installed. Not yet verified on a GPU."""
    import onnxruntime

    kind, _, index = place.device.partition(":")
    if kind == "cpu":
        return [CPU]
    there = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in there:
        raise BackendNotAvailable(
            f"backend onnx on {place.device} needs the CUDA provider of ONNX Runtime, which is"
            f" missing from this build (it has {', '.join(there)}): run pip uninstall onnxruntime,"
            f" then {how_to_install('onnx-gpu')}"
        )
    cuda: Provider = ("CUDAExecutionProvider", {"device_id": int(index or 0)})
    if "TensorrtExecutionProvider" not in there or importlib.util.find_spec("tensorrt") is None:
        return [cuda, CPU]
    engines = Path(config.cache_dir).expanduser() / "tensorrt" if config.cache_dir else None

    def shape(inputs: int, tokens: int) -> str:
        return ",".join(f"{name}:{inputs}x{tokens}" for name in inputs_of(spec))

    longest = min(spec.max_length, 512)
    options = {
        "device_id": int(index or 0),
        "trt_fp16_enable": dtype == "float16",
        "trt_layer_norm_fp32_fallback": True,
        "trt_profile_min_shapes": shape(1, 1),
        "trt_profile_opt_shapes": shape(min(16, config.max_batch_size), min(64, longest)),
        "trt_profile_max_shapes": shape(config.max_batch_size, longest),
        "trt_engine_cache_enable": engines is not None,
        **({"trt_engine_cache_path": str(engines)} if engines else {}),
    }
    return [("TensorrtExecutionProvider", options), cuda, CPU]


def _session(path: Path, threads: int, wanted: Sequence[Provider]) -> InferenceSession:
    """Raises BackendNotAvailable where the first provider does not come up."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # a number of one's own: then no thread is pinned
    options.inter_op_num_threads = 1
    # Spinning threads would use the cores that the frontend and the other replicas need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Plans for memory are kept for each shape that has ever come, and there is no end of them.
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors; they are raised, too
    session = onnxruntime.InferenceSession(str(path), options, providers=list(wanted))
    first = wanted[0][0]
    if first not in session.get_providers():
        raise BackendNotAvailable(
            f"ONNX Runtime's {first} does not start here (its libraries are missing or of another"
            f" version): {how_to_install('onnx-gpu')}"
        )
    return session


def _is_tensorrt(wanted: Sequence[Provider]) -> bool:
    return wanted[0][0] == "TensorrtExecutionProvider"


def _quantised(
    source: Path, spec: EncoderSpec, bits: int, kept: Sequence[str]
) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        known = reference_answers.load(spec)
        assert known is not None, "only heads that the reference has answered for are exported"
        # Half of the inputs that the guard judges by, so that it has some that are new.
        batches = [pad([ids], spec.pad_id) for ids in known.inputs[: known.judged : 2]]
        with tempfile.TemporaryDirectory(prefix="batcher-onnx-") as folder:
            sizes = calibrate(source, batches, Path(folder), torch.get_num_threads())
        quantise(source, target, bits=bits, sizes=sizes, kept=kept)

    return make


def _halved(source: Path) -> Callable[[Path], None]:
    """The graph in float16, its sums over many numbers in float32. Not yet verified on a GPU."""

    def make(target: Path) -> None:
        import onnx
        from onnxruntime.transformers import float16

        block = [*float16.DEFAULT_OP_BLOCK_LIST, "LayerNormalization", "ReduceSum", "ReduceL2"]
        model = onnx.load(source)
        halved = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=block)
        onnx.save(halved, target)

    return make
