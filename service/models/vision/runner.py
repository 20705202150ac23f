"""A model that sees, with the head of its task: uint8 images in, and for a model of images and
texts token ids as well; float32 logits or vectors out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from batcher import BatcherError, InvalidPayload
from batcher.failures import explain, is_device_lost, is_out_of_memory
from service.cache.profiles import (
    Point,
    ProfileKey,
    content_of,
    saved_or_measured,
)
from service.models.backends import BackendNotAvailable
from service.models.backends.torch.agreement import FAR, change
from service.models.backends.torch.eager import within_memory
from service.models.config import RunnerConfig
from service.models.measures import Rows
from service.models.precision import choose_device, full_name, name_of
from service.models.profiling import measure
from service.models.rows import NotFinite, check_finite
from service.models.vision.heads import HEADS, Head
from service.models.vision.loading import open_model
from service.models.vision.processing import Processor, Tensors, alike
from service.placement.cores import available_cores, default_threads
from service.repository.folder import Wanted
from service.repository.json_files import ModelNotSupported
from service.repository.locate import find_model
from service.repository.vision import find_vision_spec

Payload = NDArray[Any]
"""An image, uint8 of shape (height, width, 3); or the token ids of a text, int32."""


class VisionRunner:
    def __init__(self, config: RunnerConfig) -> None:
        self._config = config.settings
        self._placement, self._replicas = config.placement, config.replicas

    def warm_up(self) -> Mapping[str, object]:
        """Raises ModelNotFound, ModelNotSupported, DeviceNotFound, BackendNotAvailable,
        TooInaccurate, or what the model raises."""
        started = time.perf_counter()
        config = self._config
        if config.backend not in ("auto", "torch") or config.compile:
            what = "BATCHER_COMPILE" if config.compile else f"BATCHER_BACKEND={config.backend}"
            raise BackendNotAvailable(f"{what} is not for image models: PyTorch runs them as it is")
        self._device = self._choose_device()
        wanted = Wanted(config.task, config.pooling, config.trust_remote_code)
        folder = find_model(config.model, config.revision)
        self._spec = find_vision_spec(folder, wanted, config.cache_dir, _say)
        _say(f"loading {config.model} from {self._spec.folder} on {self._device} …")
        self._processor = Processor(self._spec)
        self._head: Head = HEADS[self._spec.task](self._spec)
        self._known_shapes: set[tuple[tuple[str, tuple[int, ...]], ...]] = set()
        samples: list[Payload] = [*self._processor.samples(), *self._head.samples()]
        about: dict[str, object] = {}

        def answers(model: Any, dtype: torch.dtype) -> Rows:
            self._model, self._dtype = model, dtype
            if dtype == torch.float32:  # as its weights say, before any is rounded
                about.update(self._head.info(model))
            rows, labels = self._answers(samples), self._spec.labels
            if labels and rows.shape[1] != len(labels) and np.isfinite(rows).any():
                raise ModelNotSupported(
                    f"{folder}: config.json has {len(labels)} labels, and the model {rows.shape[1]}"
                )
            return rows

        opened = open_model(self._spec, self._head, config, self._device, answers, _say)
        self._model, self._dtype, accuracy = opened
        dtype = name_of(self._dtype)
        if config.max_batch_size > 1:
            self._check_alone(samples)
        loaded = time.perf_counter()
        _say(f"loaded in {loaded - started:.1f} s: torch in {dtype}; warming up …")
        profile, source = self._profile() if config.profile else ([], "")
        warm = time.perf_counter()
        _say(f"warm after {warm - loaded:.1f} s")
        facts = {"profile": [list(point) for point in profile], "profile_source": source}
        return {
            **(facts if profile else {}),
            "model": config.model,
            "task": self._spec.task,
            "source": self._spec.source,
            "backend": "torch",
            "dtype": dtype,
            "device": full_name(self._device),
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in self._model.parameters()),
            "torch": str(torch.__version__),
            "transformers": str(transformers.__version__),
            # Images and texts are run apart, so a batch takes what both take by themselves.
            "padding_free": True,
            **about,
            **accuracy,
            "load_seconds": round(loaded - started, 3),
            "warm_up_seconds": round(warm - loaded, 3),
        }

    def run(self, payloads: Sequence[Payload]) -> Sequence[Any]:
        """A float32 matrix (n, width), or a list with an error for each bad row."""
        if not payloads:
            return []
        results: list[Any] = [None] * len(payloads)
        made: list[tuple[int, Tensors]] = []
        for place, payload in enumerate(payloads):
            if payload.ndim == 3:
                tensors = self._processor.process(payload)
                if isinstance(tensors, InvalidPayload):
                    results[place] = tensors
                else:
                    made.append((place, tensors))
        for places, batch in alike(made):
            self._set(results, places, self._of_images(batch, len(places)))
        texts = [place for place, payload in enumerate(payloads) if payload.ndim == 1]
        if texts:
            self._set(results, texts, self._of_texts([payloads[place] for place in texts]))
        return results

    def close(self) -> None:
        self._model = torch.nn.Identity()
        torch.cuda.empty_cache()  # nothing where CUDA was not used

    @staticmethod
    def _set(results: list[Any], places: Sequence[int], answers: Rows | BatcherError) -> None:
        if isinstance(answers, BatcherError):
            rows: Sequence[Any] = [answers] * len(places)
        else:
            rows = check_finite(answers)
        for place, row in zip(places, rows, strict=True):
            results[place] = row

    def _of_images(self, inputs: Tensors, size: int) -> Rows | BatcherError:
        """Of images that are alike. An error: the model does not take images of this size."""
        shapes = tuple((name, tuple(each.shape[1:])) for name, each in inputs.items())
        given = {
            name: each.to(self._device, self._dtype if each.is_floating_point() else None)
            for name, each in inputs.items()
        }
        try:
            answers = within_memory(
                lambda: self._numbers(lambda: self._head.of_images(self._model, given)), size
            )
        except (ValueError, RuntimeError) as error:
            if shapes in self._known_shapes or is_out_of_memory(error) or is_device_lost(error):
                raise
            pixels = " x ".join(map(str, next(iter(inputs.values())).shape[-2:][::-1]))
            return InvalidPayload(
                f"the model does not take an image of {pixels} pixels, and its image processor does"
                f" not bring it to another size: {explain(error)}"
            )
        self._known_shapes.add(shapes)
        return answers

    def _of_texts(self, texts: Sequence[Payload]) -> Rows:
        return within_memory(
            lambda: self._numbers(lambda: self._head.of_texts(self._model, texts, self._device)),
            len(texts),
        )

    @staticmethod
    def _numbers(run: Callable[[], torch.Tensor]) -> Rows:
        with torch.inference_mode():
            return run().float().cpu().numpy()

    def _choose_device(self) -> torch.device:
        device = choose_device(self._placement.device, torch.cuda.device_count())
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # torch's own count knows physical cores, ours the container's quota.
        cores = min(torch.get_num_threads(), available_cores())
        torch.set_num_threads(self._placement.threads or default_threads(cores, self._replicas))
        return device

    def _answers(self, payloads: Sequence[Payload]) -> Rows:
        """NaN where they are not finite. Raises ModelNotSupported where the model has none."""
        rows = list(self.run(payloads))
        for row in rows:
            if isinstance(row, BatcherError):
                raise ModelNotSupported(f"{self._spec.folder}: {row}")
        width = next((len(row) for row in rows if isinstance(row, np.ndarray)), 1)
        nothing = np.full(width, np.nan, np.float32)
        return np.stack([nothing if isinstance(row, NotFinite) else row for row in rows])

    def _check_alone(self, payloads: Sequence[Payload]) -> None:
        """Raises ModelNotSupported if an image or a text gets another answer beside others."""
        batched = self._answers(payloads)
        alone = np.concatenate([self._answers([one]) for one in payloads])
        if how := change(self._head.measure, name_of(self._dtype), batched, alone, FAR):
            raise ModelNotSupported(
                f"{self._spec.folder}: an answer changes {how} beside other inputs;"
                " with BATCHER_MAX_BATCH_SIZE=1 each runs alone"
            )

    def _profile(self) -> tuple[list[Point], str]:
        """The points, and whether they are of the cache or measured just now."""
        key = ProfileKey(
            model=self._config.model,
            content=content_of(self._spec.folder),
            task=self._spec.task,
            device=full_name(self._device),
            backend="torch",
            dtype=name_of(self._dtype),
            threads=torch.get_num_threads(),
            versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
            padding_free=True,
        )
        return saved_or_measured(
            self._config.cache_dir,
            key,
            lambda: measure(self._time, self._spec.cost, _say, lengths=(self._spec.cost,)),
            _say,
        )

    def _time(self, images: int, _tokens: int) -> float:
        """Seconds of one batch of images of the model's own size."""
        size = self._spec.image_size
        batch = [np.zeros((size, size, 3), np.uint8)] * images
        started = time.perf_counter()
        self.run(batch)
        return time.perf_counter() - started


def _say(line: str) -> None:
    print(line, flush=True)
