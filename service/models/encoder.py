"""A sentence encoder: pads a batch once, runs one forward pass, pools and normalises.

torch and transformers are imported here and in devices.py only, in the worker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from batcher.runner import is_out_of_memory
from service.models import RunnerConfig
from service.models.devices import choose_device, choose_dtype, full_name, has_native_bf16
from service.models.finite import only_finite
from service.models.folder import find_model
from service.models.padding import Matrix, Padded, pad, plain
from service.models.profiling import measure
from service.models.spec import EncoderSpec, ModelNotSupported, Pooling, read_spec
from service.models.threads import available_cores, default_threads
from service.profile import Point, ProfileKey, content_of, load_profile, save_profile
from service.tokenizing import TextTokenizer

Ids = NDArray[np.int32]
TASKS = ("auto", "embed")
WARM_UP_SHAPES = ((1, 8), (1, 8), (8, 16), (32, 32))  # inputs, tokens


class EncoderRunner:
    """Payloads are int32 id arrays as TextTokenizer makes them, or texts.

    Inputs are not sorted by length: one pass over one rectangle, in which order is no matter.
    """

    def __init__(self, config: RunnerConfig) -> None:
        if config.task not in TASKS:
            raise ValueError(f"task {config.task!r} is not one of {', '.join(TASKS)}")
        self._config = config

    def warm_up(self) -> Mapping[str, object]:
        """Raises ModelNotFound, ModelNotSupported, DeviceNotFound, or what the model raises."""
        started = time.perf_counter()
        config = self._config
        device = choose_device(config.device, config.replica, torch.cuda.device_count())
        if device.type == "cuda":
            torch.cuda.set_device(device)  # else pinned memory opens a context on device 0 as well
        dtype = choose_dtype(config.dtype, device.type, has_native_bf16(device))
        # torch's own count knows physical cores, ours the container's quota.
        cores = min(torch.get_num_threads(), available_cores())
        torch.set_num_threads(config.threads or default_threads(cores, config.replicas))
        self._device = device
        self._spec = read_spec(find_model(config.model))
        self._tokenizer: TextTokenizer | None = None  # loaded with the first text
        _say(f"loading {config.model} from {self._spec.folder} on {device} in {_name(dtype)} …")
        self._model = _load(self._spec, device, dtype)
        self._allocate = _pinned if device.type == "cuda" else plain
        loaded = time.perf_counter()
        _say(f"loaded in {loaded - started:.1f} s; warming up …")
        self._exercise()
        profile, source = self._profile(device, dtype) if config.profile else ([], "")
        warm = time.perf_counter()
        _say(f"warm after {warm - loaded:.1f} s")
        facts = {"profile": [list(point) for point in profile], "profile_source": source}
        return {
            **(facts if profile else {}),
            "model": config.model,
            "task": "embed",
            "device": _device_name(device),
            "dtype": _name(dtype),
            "dimension": self._spec.dimension,
            "max_length": self._spec.max_length,
            "pooling": self._spec.pooling,
            "normalize": self._spec.normalize,
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in self._model.parameters()),
            "torch": str(torch.__version__),
            "transformers": str(transformers.__version__),
            "load_seconds": round(loaded - started, 3),
            "warm_up_seconds": round(warm - loaded, 3),
        }

    def run(self, payloads: Sequence[Ids | str]) -> Sequence[Any]:
        """A float32 matrix (n, dimension), or a list with a NotFinite for each bad row."""
        if not payloads:
            return []
        sequences = [self._ids(p) if isinstance(p, str) else p for p in payloads]
        try:
            return only_finite(self._forward(pad(sequences, self._spec.pad_id, self._allocate)))
        except RuntimeError as error:  # torch's own for a device without room is one, too
            if not is_out_of_memory(error):
                raise
            why = str(error)
        # Out here the tensors of the failed pass are gone, and what they held can be given back.
        torch.cuda.empty_cache()
        raise MemoryError(f"{len(sequences)} inputs do not fit: {why.splitlines()[0]}")

    def close(self) -> None:
        self._model = torch.nn.Identity()
        torch.cuda.empty_cache()  # nothing where CUDA was not used

    def _forward(self, batch: Padded) -> NDArray[np.float32]:
        with torch.inference_mode():
            ids = torch.from_numpy(batch.ids).to(self._device, non_blocking=True)
            mask = torch.from_numpy(batch.mask).to(self._device, non_blocking=True)
            # No mask where nothing is padded: attention then takes its faster kernel. No token
            # types: a model that has them takes zeros, which is what one text is.
            output = self._model(input_ids=ids, attention_mask=None if batch.is_full else mask)
            vectors = pool(output.last_hidden_state, mask, self._spec.pooling)
            if self._spec.normalize:
                vectors = torch.nn.functional.normalize(vectors, p=2.0, dim=1)
            # The only wait for the device; it also frees the pinned memory for the next batch.
            return vectors.cpu().numpy()

    def _ids(self, text: str) -> Ids:
        if self._tokenizer is None:
            self._tokenizer = TextTokenizer.load(self._spec)
        return self._tokenizer.encode(text, truncate=True)

    def _exercise(self) -> None:
        for inputs, tokens in WARM_UP_SHAPES:
            length = min(tokens, self._spec.max_length)
            # One input shorter than the rest, so that the masked path is taken too.
            self.run([*self._rows(inputs - 1, length), *self._rows(1, max(1, length // 2))])

    def _profile(self, device: torch.device, dtype: torch.dtype) -> tuple[list[Point], str]:
        """The points, and whether they are of the cache or measured just now."""
        key = ProfileKey(
            model=self._config.model,
            content=content_of(self._spec.folder),
            device=full_name(device),
            dtype=_name(dtype),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
            transformers=str(transformers.__version__),
        )
        saved, why = load_profile(self._config.cache_dir, key)
        if saved is not None:
            return saved, "cache"
        if why:
            _say(f"{why}; measuring again …")
        points = measure(self._time, self._spec.max_length, _say)
        if points and (why := save_profile(self._config.cache_dir, key, points)):
            _say(why)
        return points, "measured"

    def _time(self, inputs: int, length: int) -> float:
        """Seconds of one batch, padded as most are: one input is shorter than the rest."""
        shorter = max(1, length - 1) if inputs > 1 else length
        rows = [*self._rows(inputs - 1, length), *self._rows(1, shorter)]
        started = time.perf_counter()
        self.run(rows)
        return time.perf_counter() - started

    def _rows(self, inputs: int, length: int) -> list[Ids]:
        return [np.full(length, self._spec.vocab_size // 2, dtype=np.int32)] * inputs


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(n, tokens, dim) and a 0/1 mask (n, tokens), padded on the right, to float32 (n, dim)."""
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[rows, mask.sum(dim=1) - 1].float()
    weights = mask.float()
    total = torch.bmm(weights.unsqueeze(1), hidden.float()).squeeze(1)
    return total / weights.sum(dim=1, keepdim=True)


def _load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, info = transformers.AutoModel.from_pretrained(
        spec.folder, dtype=dtype, local_files_only=True, output_loading_info=True
    )
    # transformers fills what is missing with random numbers; only the pooler is not ours to use.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelNotSupported(
            f"{spec.folder}: {len(missing)} of the model's weights are missing, {missing[0]} first"
        )
    loaded: torch.nn.Module = model.eval().requires_grad_(False).to(device)
    return loaded


def _pinned(shape: tuple[int, int]) -> Matrix:
    return torch.empty(shape, dtype=torch.int64, pin_memory=True).numpy()


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "cpu"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _say(line: str) -> None:
    print(line, flush=True)
