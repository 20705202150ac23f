"""The reference library as a backend: for models that nothing faster runs, or runs right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sentence_transformers
import torch
import transformers

from service.models.backends import (
    Answers,
    Backend,
    BackendNotAvailable,
    Ids,
    Place,
    Say,
    Tokens,
    Types,
)
from service.models.backends.torch.eager import within_memory
from service.models.config import ModelConfig
from service.models.heads import head_of, vector_head_of
from service.models.reference.dense import DenseReference
from service.models.reference.headed import HeadedReference
from service.models.reference.sparse import SparseReference
from service.repository.folder import Wanted, read_folder
from service.repository.spec import EncoderSpec


class ReferenceBackend:
    name = "reference"
    versions = (
        f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__},"
        f" transformers {transformers.__version__}"
    )

    def __init__(
        self,
        run: Callable[[Sequence[Ids], Types], torch.Tensor],
        states: Callable[[Sequence[Ids]], list[torch.Tensor]],
        dtype: str,
        device: str,
    ) -> None:
        """From token ids to what the task's head answers, and to the states of each token."""
        self.dtype = dtype
        self._run = run
        self._states = states
        self._device = device

    def facts(self) -> Mapping[str, object]:
        return {"device": self._device, "threads": torch.get_num_threads()}

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        with torch.inference_mode():
            answers = within_memory(lambda: self._run(sequences, types), len(sequences))
            found = answers.float().cpu().numpy()
        if found.ndim == 2:
            return found
        # A row for each token; padded on the right.
        return [rows[: len(ids)].copy() for rows, ids in zip(found, sequences, strict=True)]

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        """In two passes: this is the slow backend, and few ask."""
        answers = self.forward(sequences)
        chosen = [sequences[place] for place in wanted]
        with torch.inference_mode():
            states = within_memory(lambda: self._states(chosen), len(chosen))
            return answers, [each.float().cpu().numpy() for each in states]

    def close(self) -> None:
        del self._run, self._states


def open_reference(config: ModelConfig, spec: EncoderSpec, place: Place, say: Say) -> Backend:
    """Raises BackendNotAvailable, or what the library raises."""
    if config.dtype == "int8":
        raise BackendNotAvailable("dtype int8 is run by backend onnx, not by the reference library")
    dtype = "float32" if config.dtype == "auto" else config.dtype
    wanted = Wanted(config.task, config.pooling, config.trust_remote_code)
    folder = read_folder(spec.whole or spec.folder, wanted)
    head = head_of(spec)
    if spec.task == "embed":
        dense = DenseReference.load(folder, wanted, place.device, dtype)
        finish = vector_head_of(spec).finish(None, spec)

        def pooled(ids: Sequence[Ids], _: Types) -> torch.Tensor:
            return finish(dense.pooled(ids))

        return ReferenceBackend(pooled, dense.states, dtype, place.device)
    if spec.task == "sparse":
        sparse = SparseReference.load(folder, wanted, place.device, dtype)
        return ReferenceBackend(lambda ids, _: sparse.weights(ids), _no_states, dtype, place.device)
    headed = HeadedReference.load(folder, wanted, head.auto_class, place.device, dtype)

    def run(ids: Sequence[Ids], types: Types) -> torch.Tensor:
        output, mask = headed.run(ids, types)
        return head.answers(output, mask, spec)

    return ReferenceBackend(run, _no_states, dtype, place.device)


def _no_states(sequences: Sequence[Ids]) -> list[torch.Tensor]:
    raise ValueError("vectors of tokens are an embedder's")
