"""What runs the model (Backend), and where it is to run (Place). Imports no torch.

Reading order: choose.py (which backend), race.py and paired.py (which is fastest),
reference_answers.py and accuracy.py (does it answer as the model's own library does), reference.py
(that library itself), fallback.py (what fails in service) ·
torch/: open.py (how PyTorch runs), eager.py, compiled.py, bert.py and packed.py (our own forward
pass, on a CPU without padding), padded.py, transfer.py, cuda.py and cuda_graphs.py (on a GPU one
batch behind the other) · onnx/: export.py, store.py, session.py, int8.py, openvino.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from service.errors import CannotServe
from service.models.config import ModelConfig
from service.models.measures import Answers as Answers
from service.models.measures import Rows as Rows
from service.repository.spec import EncoderSpec

Ids = NDArray[np.int32]  # the tokens of one input, special ones included, nothing padded
Types = Sequence[Ids] | None  # the token types of each input; None: 0 all through
Say = Callable[[str], None]  # one line for the log


class Backend(Protocol):
    """The encoder, loaded: from token ids to the answers of its task's head, see heads.py.

    It may also be a LaunchingBackend, or have BlocksInFloat32.
    """

    @property
    def name(self) -> str:
        """torch, torch-compiled, onnx, openvino"""

    @property
    def dtype(self) -> str:
        """float32, bfloat16, float16, int8"""

    @property
    def versions(self) -> str:
        """Of everything that its speed depends on, for what is saved of it."""

    def facts(self) -> Mapping[str, object]:
        """For people, `/info` and the scheduler; `device` is always among them."""

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        """One each, float32, in order; n >= 1, each sequence of 1 to max_length ids. `types` only
        where the spec's `pairs_have_types`. May hold what is not finite. Raises MemoryError for
        what does not fit, with nothing of it kept."""

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        """As forward, and in the same pass the last hidden state of each token of the inputs at
        these places, float32. Only where the head is made of these states (task embed)."""

    def close(self) -> None:
        """Gives back what it holds. Called once, last."""


Tokens = tuple[Answers, list[Rows]]

Launch = Callable[[Sequence[Ids], Types], Callable[[], Answers]]
"""Queues one forward pass on the device and returns at once; what it returned waits for the result
and may raise what forward does. At most two outstanding, waited for in order, by another thread."""


@runtime_checkable
class LaunchingBackend(Protocol):
    """A backend for a device that computes while the process goes on."""

    def launch(self, sequences: Sequence[Ids], types: Types = None) -> Callable[[], Answers]:
        """See Launch."""


@runtime_checkable
class BlocksInFloat32(Protocol):
    """A backend of a reduced precision, parts of which can run in float32."""

    @property
    def blocks(self) -> Sequence[str]:
        """The names that RunnerConfig.float32_blocks may hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica runs, decided before any backend is made."""

    device: str  # cpu or cuda:0
    device_name: str  # the hardware: cuda (NVIDIA H200)
    threads: int
    native_bf16: bool = False  # the device computes in bfloat16, and does not emulate it
    instructions: str = ""  # changes with those that a CPU has; empty: not known


class BackendNotAvailable(CannotServe):
    """The backend that BATCHER_BACKEND names cannot be had here. The text says what to do."""


Open = Callable[[ModelConfig, EncoderSpec, Place, Say], Backend]
"""Loads the model. Raises BackendNotAvailable, ModelNotSupported, or what the library raises."""
