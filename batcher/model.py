"""Model: a model of the user's own, in up to three methods. The service calls them; nothing here
does. Needs no numpy until arrays are collated.

    from batcher import Model

    class Cat(Model):
        def setup(self, device):            # once in each worker process
            self.net = load(device)
        def preprocess(self, request):      # one input -> array, dict of arrays, or any JSON value
            return resize(decode(request.body))
        def predict(self, batch):           # all inputs of a batch -> one output for each
            return self.net(batch)
        def postprocess(self, output):      # one output -> JSON, bytes, an array, or a Response
            return {"label": LABELS[output.argmax()]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from batcher.plain_data import is_array


class Tensor(NamedTuple):
    """One that a model takes for each input, or answers for each: without the batch's dimension."""

    name: str
    dtype: str  # as numpy calls it: float32, int64, bool; or bytes
    shape: tuple[int, ...] = ()  # -1: of any size


@dataclass(frozen=True, slots=True)
class File:
    """One part of a form that has a file name or a content type of its own."""

    body: bytes
    content_type: str = "application/octet-stream"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What `preprocess` gets of a body that is not JSON: an image as it was sent, or a form."""

    body: bytes
    content_type: str
    fields: Mapping[str, str] = field(default_factory=dict)  # of a form
    files: Mapping[str, File] = field(default_factory=dict)  # likewise


@dataclass(frozen=True, slots=True)
class Response:
    """What `postprocess` may return: bytes, and what they are."""

    body: bytes
    content_type: str = "application/octet-stream"


class Model:
    """Only `predict` is required. `preprocess` and `postprocess` get one input and one output each;
    if one of them raises, that fails the request alone: BadInput is a 422, all else a 500.
    """

    inputs: Sequence[Tensor] = ()
    """What one input is made of: one tensor (it is an array), or several (a dict of arrays by
    name). What does not fit is refused. Empty: any JSON value, or a Request."""

    outputs: Sequence[Tensor] = ()
    """What one output is made of. Only needed for Open Inference V2."""

    def setup(self, device: str) -> None:
        """Loads the model; called once in each worker process, before `predict`. `device` is cpu,
        or cuda:1."""

    def setup_cpu(self) -> None:
        """Called once in each process that calls `preprocess` and `postprocess`, before them."""

    def preprocess(self, request: Any) -> Any:
        """`request` is one element of `inputs` of a JSON body, or a Request."""
        return request

    def predict(self, batch: Any) -> Any:
        """One output for each input of the batch, in their order: an array, a list, or a dict of
        arrays, which has the name of each output. `batch` is what `collate` returned.

        If it raises, the batch runs again in halves, so that only the culprit fails.
        """
        raise NotImplementedError

    def postprocess(self, output: Any) -> Any:
        return output

    def cost(self, value: Any) -> float:
        """What one preprocessed input adds to the time of a batch, 1 or more: the length of what
        is padded. A batch has at most BATCHER_MAX_BATCH_TOKENS of it."""
        return 1

    def collate(self, values: list[Any]) -> Any:
        """What `predict` gets of the preprocessed inputs of one batch. Arrays of one shape and
        dtype are stacked, dicts of such arrays by their names; all else stays a list."""
        return collate(values)


def collate(values: list[Any]) -> Any:
    """See Model.collate."""
    first = values[0]
    if isinstance(first, Mapping):
        names = first.keys()
        if not all(isinstance(each, Mapping) and each.keys() == names for each in values):
            return values
        columns = {name: [each[name] for each in values] for name in names}
        if all(map(_are_alike, columns.values())):
            return {name: _stack(column) for name, column in columns.items()}
        return values
    return _stack(values) if _are_alike(values) else values


def _are_alike(values: list[Any]) -> bool:
    """Arrays of one shape and dtype."""
    first = values[0]
    return is_array(first) and all(
        is_array(each) and each.dtype == first.dtype and each.shape == first.shape
        for each in values
    )


def _stack(values: list[Any]) -> Any:
    import numpy as np  # with arrays, it is there

    return np.stack(values)
