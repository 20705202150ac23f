"""The bodies of POST /v2/models/{model}/infer as /openapi.json describes them: for each task its
tensors in JSON, of few rows. request.py takes more than JSON Schema can say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, create_model

from service.api import schemas
from service.api.oip.datatypes import BYTES, NUMBERS
from service.api.oip.own import OwnTensors, declares_tensors
from service.api.oip.signature import InferParameters
from service.api.oip.tensors import ANY, TensorSpec
from service.catalog import ServedModel
from service.tasks.classify import Classify
from service.tasks.custom import Predict
from service.tasks.embed import Embed
from service.tasks.image_classify import ImageClassify
from service.tasks.image_embed import ImageEmbed
from service.tasks.score import Score
from service.tasks.sparse import Sparse

_PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="
_BASE64: dict[str, Any] = {"description": "base64, or a data: URI"}


def _inputs(*names: str, **of_element: Any) -> dict[str, Any]:
    """All of these, of one row; one alone also of two."""
    counts = (1, 2) if len(names) == 1 else (1,)
    return {
        "type": "array",
        "minItems": len(names),
        "maxItems": len(names),
        "items": {"anyOf": [_tensor(name, rows, of_element) for name in names for rows in counts]},
        "examples": [[_example(name) for name in names]],
    }


def complete(
    served: ServedModel, operation: dict[str, Any], described: dict[str, dict[str, Any]]
) -> None:
    """Of a model of the user's own: what it declares, one row of it."""
    if not declares_tensors(served):
        return
    signature = OwnTensors(served)
    properties = described["InferOwnBody"]["properties"]
    inputs = [_own_tensor(each) for each in signature.inputs]
    count = len(inputs)
    properties["inputs"] |= {
        "type": "array",
        "minItems": count,
        "maxItems": count,
        "items": {"anyOf": inputs},
    }
    properties["outputs"] |= _outputs(*(each.name for each in signature.outputs))


def _own_tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [1, *(1 if size == ANY else size for size in spec.shape[1:])]
    element: dict[str, Any] = {"type": "string"}
    if spec.datatype != BYTES:
        dtype = NUMBERS[spec.datatype]
        kind = {"b": "boolean", "f": "number"}.get(dtype.kind, "integer")
        element = {"type": kind}
        if kind == "integer":
            limits = np.iinfo(dtype)
            element |= {"minimum": int(limits.min), "maximum": int(limits.max)}
        elif kind == "number":
            most = float(np.finfo(dtype).max)
            element |= {"minimum": -most, "maximum": most}
    tensor = _tensor(spec.name, 1, {})
    tensor["properties"] |= {
        "datatype": {"enum": [spec.datatype]},
        "shape": {"enum": [sizes]},
        "data": {
            "type": "array",
            "items": element,
            "minItems": math.prod(sizes),
            "maxItems": math.prod(sizes),
        },
    }
    return tensor


def _example(name: str) -> dict[str, Any]:
    data = _PIXEL if name == "image" else "What do whales eat?"
    return {"name": name, "datatype": "BYTES", "shape": [1], "data": [data]}


def _tensor(name: str, rows: int, of_element: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"enum": [name]},
            "datatype": {"enum": ["BYTES"]},
            "shape": {"enum": [[rows]]},
            "data": {
                "type": "array",
                "minItems": rows,
                "maxItems": rows,
                "items": {"type": "string", **of_element},
            },
        },
    }


def _outputs(*names: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {"binary_data": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}},
    }
    one = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": list(names)},
            "parameters": {"anyOf": [parameters, {"type": "null"}]},
        },
    }
    return {"anyOf": [{"type": "array", "maxItems": 1, "items": one}, {"type": "null"}]}


class InferBody(schemas.Body):
    """A tensor may also be binary data behind the JSON, as Open Inference V2 has it."""

    id: str | None = Field(None, description="comes back with the answer")
    parameters: InferParameters | None = Field(
        None, description="`priority`, `timeout`, `binary_data_output`, and options of the task"
    )
    inputs: Any
    outputs: Any = None


class InferOwnBody(InferBody):
    inputs: Annotated[Any, Field(description="as `inputs` of the model's class declares them")]
    outputs: Annotated[Any, Field(None, description="as its `outputs` declares them; null: all")]


def _body(
    name: str, inputs: Sequence[str], outputs: Sequence[str], about: str = "", **of_element: Any
) -> Sequence[type[InferBody]]:
    about_inputs = f"{_and(inputs)}, BYTES of shape [-1, 1] or [-1]{about}; each row is one input"
    about_outputs = (
        f"{_and(outputs)}, those to answer; null: all. The `parameters` of one: `binary_data`, or"
        " `classification`: so many of the highest values, as value:index:label"
    )
    body = create_model(
        f"Infer{name}Body",
        __base__=InferBody,
        inputs=(
            Any,
            Field(description=about_inputs, json_schema_extra=_inputs(*inputs, **of_element)),
        ),
        outputs=(Any, Field(None, description=about_outputs, json_schema_extra=_outputs(*outputs))),
    )
    return (body,)


def _and(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


_IDS = "; or `input_ids` and `attention_mask`, INT64 of shape [-1, -1]"
BODIES: Mapping[str, Sequence[type[InferBody]]] = {
    ImageClassify.name: _body("ImageClassify", ["image"], ["scores", "label"], **_BASE64),
    ImageEmbed.name: _body(
        "ImageEmbed", ["image"], ["embedding"], ", or `text` in its place", **_BASE64
    ),
    Embed.name: _body("Embed", ["text"], ["embedding"], _IDS),
    Sparse.name: _body("Sparse", ["text"], ["indices", "values"], _IDS),
    Classify.name: _body("Classify", ["text"], ["scores", "label"], ", and maybe `text_pair`"),
    Predict.name: (InferOwnBody,),
    Score.name: _body("Score", ["query", "documents"], ["scores"], "; one query, or one each"),
}
