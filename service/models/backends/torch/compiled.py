"""The model through torch.compile, for lengths and sizes of all kinds (BATCHER_COMPILE=on).

Compiled once, at the start, and never while somebody waits: a batch of a kind that was not seen
then runs as it would without.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from batcher.failures import explain, is_device_lost, is_out_of_memory
from service.models.backends import Say
from service.models.backends.torch.eager import TorchBackend
from service.repository.spec import EncoderSpec

# Lengths of each batch's inputs. torch compiles one, many, padded and not each by itself; the
# second of a kind shows it that the lengths change.
KINDS = ((8,), (9,), (16, 15), (17, 15, 9), (16, 16), (17, 17, 17))


class Compiled:
    """What a function does, compiled; where that fails, the function itself from then on."""

    def __init__(
        self, function: Callable[..., Any], compiled: Callable[..., Any], say: Say
    ) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = compiled
        self._say = say
        self._stance = "default"
        self.failed = ""  # why it is not used any more

    def freeze_shapes(self) -> None:
        """From here on nothing is compiled any more."""
        self._stance = "eager_on_recompile"

    def __call__(self, **given: Any) -> Any:
        if self._compiled is None:
            return self._function(**given)
        try:
            with torch.compiler.set_stance(self._stance):
                return self._compiled(**given)
        except Exception as error:
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            why = explain(error).partition(" Set TORCHDYNAMO_VERBOSE")[0]  # advice for its makers
        answer = self._function(**given)  # raises, too, if the input is what was wrong
        self._compiled, self.failed = None, why
        self._say(f"the compiled model keeps failing; switching to plain PyTorch: {why}")
        return answer


def compile_backend(
    backend: TorchBackend,
    spec: EncoderSpec,
    cache_dir: str,
    say: Say,
    compile: Callable[[Any], Any] | None = None,
) -> bool:
    """Whether the backend runs a compiled model now; if not, the log and its facts say why."""
    if cache_dir:  # what the compiler has made is found again by the next start
        folder = os.path.join(os.path.expanduser(cache_dir), "compiled")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)
    say("compiling the model; this can take minutes …")
    chosen = compile or (lambda model: torch.compile(model, dynamic=True))
    compiled = Compiled(backend.model, chosen(backend.model), say)
    backend.use(compiled)
    draw = np.random.default_rng(0)
    for lengths in KINDS:
        within = [min(length, spec.max_length) for length in lengths]
        ids = [draw.integers(0, spec.vocab_size, n, dtype=np.int32) for n in within]
        backend.forward(ids)
        if spec.pairs_have_types:
            backend.forward(ids, [np.zeros(n, dtype=np.int32) for n in within])
    compiled.freeze_shapes()
    return not compiled.failed
