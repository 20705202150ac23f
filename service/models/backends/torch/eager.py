"""PyTorch as it comes: one padded rectangle, one pass of the model that transformers builds.

Nothing that a frontend imports brings in torch or transformers, as this file does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import transformers

from batcher.failures import is_out_of_memory
from service.models.backends import Answers, Ids, Tokens, Types
from service.models.backends.torch.mixed_precision import blocks_of, dtype_of
from service.models.heads import head_of
from service.models.rows import Matrix, Padded, own_rows, pad, plain
from service.repository.spec import EncoderSpec, ModelNotSupported


class TorchBackend:
    """Inputs are not sorted by length: one pass over one rectangle, in which order is no matter."""

    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"

    def __init__(self, model: Any, spec: EncoderSpec, device: torch.device) -> None:
        self.model = model
        self._spec = spec
        self._device = device
        self._run: Any = model  # or what stands in for it
        self._head = head_of(spec)
        self._allocate = _pinned if device.type == "cuda" else plain
        self.dtype = str(dtype_of(model)).removeprefix("torch.")
        self.blocks = blocks_of(model)  # what may be kept in float32, for the guard

    @property
    def name(self) -> str:
        return "torch" if self._run is self.model or self._run.failed else "torch-compiled"

    def use(self, compiled: Any) -> None:
        """A Compiled model in the model's place."""
        self._run = compiled

    def facts(self) -> Mapping[str, object]:
        return {
            "device": _device_name(self._device),
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "torch": str(torch.__version__),
            "transformers": str(transformers.__version__),
            **({} if self._run is self.model else {"compile": self._run.failed or "on"}),
        }

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        return within_memory(
            lambda: self._forward(pad(sequences, self._spec.pad_id, self._allocate, types)),
            len(sequences),
        )

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        padded = pad(sequences, self._spec.pad_id, self._allocate)
        return within_memory(lambda: self._with_tokens(padded, wanted), len(sequences))

    def close(self) -> None:
        self.model = self._run = torch.nn.Identity()
        torch.cuda.empty_cache()  # nothing where CUDA was not used

    def _forward(self, batch: Padded) -> Answers:
        with torch.inference_mode():
            output, mask = self._output(batch)
            # The only wait for the device; it also frees the pinned memory for the next batch.
            found = self._head.answers(output, mask, self._spec).cpu().numpy()
        return found if found.ndim == 2 else own_rows(found, batch.mask)

    def _with_tokens(self, batch: Padded, wanted: Sequence[int]) -> Tokens:
        places = list(wanted)
        with torch.inference_mode():
            output, mask = self._output(batch)
            answers = self._head.answers(output, mask, self._spec).cpu().numpy()
            states = output.last_hidden_state[places].float().cpu().numpy()
        return answers, own_rows(states, batch.mask[places])

    def _output(self, batch: Padded) -> tuple[Any, torch.Tensor]:
        """What the model returns, and the mask on the device."""
        ids = torch.from_numpy(batch.ids).to(self._device, non_blocking=True)
        mask = torch.from_numpy(batch.mask).to(self._device, non_blocking=True)
        # No mask where nothing is padded: attention then takes its faster kernel. Without token
        # types a model that has them takes zeros, which is what one text is.
        given = {"input_ids": ids, "attention_mask": None if batch.is_full else mask}
        if batch.types is not None:
            types = torch.from_numpy(batch.types)
            given["token_type_ids"] = types.to(self._device, non_blocking=True)
        return self._run(**given), mask


T = TypeVar("T")


def within_memory(run: Callable[[], T], inputs: int) -> T:
    """What `run` returns. Raises MemoryError where the device has no room, having made some."""
    try:
        return run()
    except RuntimeError as error:  # torch's own for a device without room is one, too
        if not is_out_of_memory(error):
            raise
        why = str(error)
    # Out here the tensors of the failed pass are gone, and what they held can be given back.
    torch.cuda.empty_cache()
    raise MemoryError(f"{inputs} inputs do not fit: {why.splitlines()[0]}")


def load(
    spec: EncoderSpec, device: torch.device, dtype: torch.dtype, *, attention: str | None = None
) -> torch.nn.Module:
    """The model as transformers builds it and the head has it, to run and never to train. Raises
    ModelNotSupported."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    head = head_of(spec)
    model, info = getattr(transformers, head.auto_class).from_pretrained(
        spec.folder,
        dtype=dtype,
        attn_implementation=attention,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    # transformers fills what is missing with random numbers; only the pooler is not ours to use.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelNotSupported(
            f"{spec.folder}: {len(missing)} of the model's weights are missing, {missing[0]} first"
        )
    model.config.use_cache = False  # one pass: nothing would read what a decoder keeps for the next
    loaded: torch.nn.Module = model.eval().requires_grad_(False).to(device)
    return loaded if head.around is None else head.around(loaded, spec).eval()


def _pinned(shape: tuple[int, int]) -> Matrix:
    return torch.empty(shape, dtype=torch.int64, pin_memory=True).numpy()


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "cpu"
