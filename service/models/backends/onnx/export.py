"""From the model as torch has it to an ONNX graph: token ids in, the head's answers out.

Traced, not compiled: torch's newer exporter takes ten times as long (40 s against 4 s for the
default model on two cores) for a graph that runs no faster. Whatever tracing may have fixed to the
example (a length, a branch) is found by running the graph on other shapes before it is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from batcher.failures import is_out_of_memory
from service.cache.notes import one_line
from service.cache.profiles import weights_of
from service.models.backends import BackendNotAvailable, Say
from service.models.backends.torch.eager import load
from service.models.heads import head_of
from service.models.rows import IDS, MASK, TYPES, Padded, pad
from service.repository.spec import EncoderSpec

OPSET = 17
ANSWERS, STATES = "answers", "states"  # the names of the graph's outputs
FORMAT = 5  # of what this file writes; part of what a saved graph is known by
# The exporter writes a larger model's weights into files of their own, which it names after the
# weights alone: in one folder two models would share them.
MOST_BYTES = 2**31 - 2**24
MOST_DIFFERENCE = 1e-3  # by the task's measure, on a scale where answers are about 1

Numbers = NDArray[np.float32]

RunGraph = Callable[[Path], Callable[[Padded], Sequence[Numbers]]]
"""Loads a graph file in float32 on the CPU; all of its outputs."""


def graph_key(spec: EncoderSpec) -> dict[str, object]:
    """Of the graph in float32, which all ONNX backends start from."""
    return {
        "format": FORMAT,
        "weights": weights_of(spec.folder),
        "task": spec.task,
        "pooling": spec.pooling,
        "dimension": spec.dimension,
        "exporter": torch_versions(),
    }


def torch_versions() -> str:
    return f"torch {torch.__version__}, transformers {transformers.__version__}"


class ExportFailed(BackendNotAvailable):
    """The model cannot be made an ONNX graph. The text says why, in one line."""


class _Whole(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        self.model = model
        self._spec = spec

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        typed = {} if types is None else {TYPES: types}
        output = self.model(input_ids=ids, attention_mask=mask, **typed)
        head = head_of(self._spec)
        answers = head.answers(output, mask, self._spec)
        return (answers, output.last_hidden_state.float()) if head.has_states else answers


def inputs_of(spec: EncoderSpec) -> list[str]:
    """The names of the graph's inputs, in order."""
    return [IDS, MASK, *([TYPES] if spec.pairs_have_types else [])]


def outputs_of(spec: EncoderSpec) -> list[str]:
    """The names of the graph's outputs. The states are there anyway: who does not ask for them pays
    nothing."""
    return [ANSWERS, *([STATES] if head_of(spec).has_states else [])]


def exporter(spec: EncoderSpec, run_graph: RunGraph, say: Say) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        say("exporting the model to ONNX …")
        export(spec, path, run_graph)

    return make


def export(spec: EncoderSpec, path: Path, run_graph: RunGraph) -> None:
    """Writes the graph in float32, once its answers are those of torch. Raises ExportFailed."""
    whole = _Whole(load(spec, torch.device("cpu"), torch.float32, attention="eager"), spec).eval()
    size = sum(each.numel() for each in whole.parameters()) * 4
    if size > MOST_BYTES:
        raise ExportFailed(
            f"the model cannot be exported to ONNX: its weights, {size / 1e9:.1f} GB, do not fit"
            " into one file of 2 GB"
        )
    try:
        _trace(whole, spec, path)
        graph = run_graph(path)
        difference = max(_difference(whole, spec, graph, batch) for batch in _batches(spec))
    except Exception as error:  # the exporter raises whatever it stumbles over
        if isinstance(error, OSError) or is_out_of_memory(error):
            raise  # of the machine as it is just now, not of the model
        raise ExportFailed(f"the model cannot be exported to ONNX: {one_line(error)}") from error
    if not difference <= MOST_DIFFERENCE:
        raise ExportFailed(
            f"the model cannot be exported to ONNX: the graph's answers are off by {difference:.2g}"
        )


def _trace(whole: torch.nn.Module, spec: EncoderSpec, path: Path) -> None:
    names, outputs, example = inputs_of(spec), outputs_of(spec), _batch(spec, 9, 5)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about tracing, and about what comes after it
        torch.onnx.export(
            whole,
            tuple(_tensors(names, example)),
            str(path),
            input_names=names,
            output_names=outputs,
            dynamic_axes={
                **{name: {0: "inputs", 1: "tokens"} for name in [*names, *outputs[1:]]},
                ANSWERS: {0: "inputs"},
            },
            opset_version=OPSET,
            dynamo=False,
        )


def _batches(spec: EncoderSpec) -> list[Padded]:
    """One token, one input, all of a length, and as long as there is: none is the example's."""
    shapes = [(1,), (8,), (17, 1, 6), (4, 4, 4, 4), (min(spec.max_length, 512), 3)]
    return [_batch(spec, *lengths) for lengths in shapes]


def _batch(spec: EncoderSpec, *lengths: int) -> Padded:
    rows = _rows(spec, *lengths)
    # The first half of each is of type 0, as a pair's first text.
    types = [np.arange(len(row), dtype=np.int32) * 2 // len(row) for row in rows]
    return pad(rows, spec.pad_id, types=types if spec.pairs_have_types else None)


def _tensors(names: Sequence[str], batch: Padded) -> list[Tensor]:
    return [torch.from_numpy(matrix) for matrix in batch.named(names).values()]


def _rows(spec: EncoderSpec, *lengths: int) -> list[NDArray[np.int32]]:
    random = np.random.default_rng(0)
    return [
        random.integers(0, spec.vocab_size, min(length, spec.max_length), dtype=np.int32)
        for length in lengths
    ]


def _difference(
    whole: torch.nn.Module,
    spec: EncoderSpec,
    graph: Callable[[Padded], Sequence[Numbers]],
    batch: Padded,
) -> float:
    """Of the output that is furthest off."""
    with torch.inference_mode():
        expected = whole(*_tensors(inputs_of(spec), batch))
    expected = [expected] if isinstance(expected, Tensor) else expected
    answers, *states = zip(graph(batch), (each.numpy() for each in expected), strict=True)
    # States may be of any size: relative to their own.
    apart = [
        float(np.abs(found - right).max() / max(1.0, np.abs(right).max()))
        for found, right in states
    ]
    return max([head_of(spec).measure.distance(*answers), *apart])
