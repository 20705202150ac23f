"""Two backends, of which each batch takes the one that will be faster with it. See mix.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.models.backends import Backend, Ids, Vectors
from service.models.backends.mix import Chooser, Measured


class MixedBackend:
    """Both are in one precision: whichever runs, the answer is the same but for rounding.

    Has no `launch`: two streams of batches would share one set of cores.
    """

    def __init__(self, backends: Mapping[str, Backend], measured: Mapping[str, Measured]) -> None:
        self._backends = dict(backends)
        self._chooser = Chooser({name: measured[name] for name in backends})
        self.name = "+".join(each.name for each in backends.values())
        self.dtype = next(iter(backends.values())).dtype
        self.versions = "; ".join(each.versions for each in backends.values())

    def facts(self) -> Mapping[str, object]:
        merged: dict[str, object] = {}
        for backend in self._backends.values():
            merged = {**backend.facts(), **merged}
        # A `padding_free` of one holds of both together: much padding goes to that one.
        return {**merged, "shares": str(self._chooser)}

    def forward(self, sequences: Sequence[Ids]) -> Vectors:
        lengths = [len(ids) for ids in sequences]
        return self._backends[self._chooser.fastest(lengths)].forward(sequences)

    def close(self) -> None:
        for backend in self._backends.values():
            backend.close()
