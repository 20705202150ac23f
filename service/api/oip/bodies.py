"""The bodies of POST /v2/models/{model}/infer as /openapi.json describes them: for each task its
tensors in JSON, of few rows. request.py takes more than JSON Schema can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, create_model

from service.api import schemas
from service.api.oip.signature import InferParameters
from service.tasks.classify import Classify
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
    Score.name: _body("Score", ["query", "documents"], ["scores"], "; one query, or one each"),
}
