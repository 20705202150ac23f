"""What is amended in text-embeddings-inference's own docs/openapi.json (Apache-2.0), before the
service is held to it: each with its reason. A document of anything else stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

TITLE = "Text Embeddings Inference"
Document = dict[str, Any]


def is_theirs(document: Mapping[str, Any]) -> bool:
    found: bool = document.get("info", {}).get("title") == TITLE
    return found


def amended(document: Document) -> Document:
    made = copy.deepcopy(document)
    for amend in AMENDMENTS.values():
        amend(made)
    return made


def _empty_is_400(document: Document) -> None:
    for operation in _operations(document, "post"):
        operation["responses"].setdefault("400", _answer("ErrorResponse"))
    document["components"]["schemas"]["ErrorType"]["enum"].append("Empty")


def _other_bodies(document: Document) -> None:
    for operation in _operations(document, "post"):
        for status in ("413", "415"):
            operation["responses"][status] = _answer("ErrorResponse")


def _null_is_absent(document: Document) -> None:
    for name, schema in document["components"]["schemas"].items():
        if name.endswith(("Request", "Parameters")):
            for field, of in schema["properties"].items():
                if field not in schema.get("required", ()):
                    schema["properties"][field] = {
                        "anyOf": [of, {"nullable": True, "enum": [None]}]
                    }


def _parameters_need_no_direction(document: Document) -> None:
    document["components"]["schemas"]["SimilarityParameters"].pop("required")


def _list_of_one(document: Document) -> None:
    alone = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}
    document["components"]["schemas"]["PredictInput"]["oneOf"].append(alone)


def _either_envelope(document: Document) -> None:
    text = {"type": "string", "nullable": True}
    fields = {"message": {"type": "string"}, "type": text, "param": text, "code": text}
    inner = {"type": "object", "required": ["message", "type"], "properties": fields}
    schema = {"type": "object", "required": ["error"], "properties": {"error": inner}}
    document["components"]["schemas"]["OpenAICompatErrorResponse"] = schema
    responses = document["paths"]["/v1/embeddings"]["post"]["responses"]
    for status in ("400", "413", "415"):
        responses[status] = _answer("OpenAICompatErrorResponse")


def _other_directions(document: Document) -> None:
    document["components"]["schemas"]["TruncationDirection"]["enum"] += ["left", "right"]


AMENDMENTS: Mapping[str, Callable[[Document], None]] = {
    "400 for an empty input or list, error_type Empty, and for what is no JSON: its code answers"
    " so, its document leaves it out": _empty_is_400,
    "413 and 415 of its web framework are in the envelope here": _other_bodies,
    "`parameters` of /similarity need no truncation_direction: its code has a default": (
        _parameters_need_no_direction
    ),
    "a list of one text is one input of /predict: its code takes it": _list_of_one,
    "null is as good as absent in every field that may be absent": _null_is_absent,
    "errors of /v1/embeddings are OpenAI's, in `error`: its official clients read them": (
        _either_envelope
    ),
    "`left` and `right` are taken beside `Left` and `Right`, as its code does": _other_directions,
}


def _operations(document: Document, method: str) -> Iterator[dict[str, Any]]:
    return (path[method] for path in document["paths"].values() if method in path)


def _answer(schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": schema, "content": {"application/json": {"schema": reference}}}
