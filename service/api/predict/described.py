"""What the description says of POST /v1/predict once the model has said what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batcher import Tensor
from service.catalog import ServedModel
from service.tasks.custom import Predict
from service.tasks.tensors import BYTES

_ANY = -1
_KINDS = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}


def complete(
    served: ServedModel, operation: dict[str, Any], schemas: dict[str, dict[str, Any]]
) -> None:
    task = served.tasks.get(Predict.name)
    if not isinstance(task, Predict):
        return
    if task.inputs:
        schemas["PredictBody"]["properties"]["inputs"]["items"] = _row(task.inputs)
    if task.outputs:
        schemas["PredictAnswer"]["properties"]["outputs"]["items"] = _row(task.outputs)
    if task.takes_bodies:
        one = {"description": "one input, as the model's own code reads it"}
        operation["requestBody"]["content"] |= {
            "image/*": {"schema": one},
            "application/octet-stream": {"schema": one},
            "multipart/form-data": {"schema": {"type": "object", **one}},
        }


def _row(tensors: Sequence[Tensor]) -> dict[str, Any]:
    if len(tensors) == 1:
        return {"title": tensors[0].name, **_tensor(tensors[0])}
    names = [tensor.name for tensor in tensors]
    properties = {tensor.name: _tensor(tensor) for tensor in tensors}
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    """As lists within lists."""
    is_text = tensor.dtype == BYTES
    kind = "string" if is_text else _KINDS[np.dtype(tensor.dtype).kind]
    schema: dict[str, Any] = {"type": kind}
    if kind == "integer":
        limits = np.iinfo(tensor.dtype)
        schema |= {"minimum": int(limits.min), "maximum": int(limits.max)}
    for size in reversed(() if is_text and tensor.shape == (1,) else tensor.shape):
        exactly = {} if size == _ANY else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **exactly}
    about = f"{tensor.dtype} {list(tensor.shape)}"
    return {"description": about, **schema}
