"""What POST /v1/embed and POST /v2/embed take: their bodies, and the inputs in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.api import fields, schemas
from service.errors import InputError
from service.tasks.images import is_data_uri
from service.tasks.text_inputs import check_count, malformed, parse_texts

Kind = Literal["search_document", "search_query", "classification", "clustering", "image"]

_TEXT = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
}
_URI = {"type": "string", "pattern": "^data:image/[a-z]+;base64,[A-Za-z0-9+/]+={0,2}$"}
_PICTURE = {
    "type": "object",
    "required": ["type", "image_url"],
    "properties": {
        "type": {"const": "image_url"},
        "image_url": {
            "type": "object",
            "required": ["url"],
            "properties": {"url": _URI},
        },
    },
}
_WAYS = ("texts", "inputs", "images")


def _inputs(*contents: dict[str, Any]) -> dict[str, Any]:
    content = {"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": [*contents]}}
    one = {"type": "object", "required": ["content"], "properties": {"content": content}}
    return _list_or_null(one)


def _list_or_null(items: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "array", "minItems": 1, "items": items}, {"type": "null"}]}


def _one_of(ways: Sequence[str]) -> dict[str, Any]:
    """One of them is given, and is not null."""
    return {
        "oneOf": [
            {
                "required": [way],
                "properties": {each: {"type": "array" if each == way else "null"} for each in ways},
            }
            for way in ways
        ]
    }


class CohereEmbedBody(schemas.Body):
    """What POST /v1/embed and POST /v2/embed take."""

    model_config = ConfigDict(json_schema_extra=_one_of(_WAYS[:2]))

    texts: Annotated[Any, Field(None, json_schema_extra=_list_or_null({"type": "string"}))]
    inputs: Annotated[
        Any,
        Field(
            None,
            description="instead of `texts`: each has a `content` of one text, or of one image",
            json_schema_extra=_inputs(_TEXT),
        ),
    ]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    input_type: Kind | None = Field(
        None, description="chooses the model's prompt for it, if it has one"
    )
    embedding_types: list[Literal["float", "binary", "ubinary", "base64"]] | None = Field(
        None,
        description="of `binary` and `ubinary` a bit is 1 for a number above 0, and the last"
        " byte is filled up with zeros. int8 and uint8 are refused: Cohere does not publish by"
        " which scale it rounds",
    )
    truncate: Literal["NONE", "START", "END"] | None = Field(
        "END", description="the end that a text over the model's limit loses; NONE: refuse it"
    )
    max_tokens: schemas.Count | None = Field(
        None,
        description="tokens, special ones included; what is beyond them is cut off or refused, as"
        " `truncate` says; null: the model's limit",
    )
    output_dimension: schemas.Count | None = Field(None, description=schemas.ABOUT_DIMENSIONS)
    priority: fields.AnyPriority | None = Field(None, description=fields.ABOUT_PRIORITY)


class CohereImagesBody(CohereEmbedBody):
    """The same for a model of images and texts."""

    model_config = ConfigDict(json_schema_extra=_one_of(_WAYS))

    inputs: Annotated[Any, Field(None, json_schema_extra=_inputs(_TEXT, _PICTURE))]
    images: Annotated[
        Any,
        Field(None, description="data: URIs", json_schema_extra=_list_or_null(_URI)),
    ]


def parse(body: CohereImagesBody, limit: int) -> tuple[list[str], frozenset[int], str]:
    """The inputs, which of them are images, and what the caller calls them. Raises InputError."""
    given = [way for way in _WAYS if getattr(body, way) is not None]
    if len(given) != 1:
        rule = f"give one of {', '.join(_WAYS)}, not {' and '.join(given) or 'none'}"
        raise InputError(rule, field=given[-1] if given else "texts", kind="invalid_request")
    [field] = given
    value = getattr(body, field)
    if field == "inputs":
        texts, images = _contents(value, limit)
        return texts, images, field
    if not isinstance(value, list):
        raise malformed(field, "a list of texts", value)
    texts = parse_texts(value, field, limit)
    images = frozenset(range(len(texts)) if field == "images" else ())
    for place in images:
        _check_image(texts[place], f"images[{place}]")
    return texts, images, field


def _contents(value: object, limit: int) -> tuple[list[str], frozenset[int]]:
    """Of `inputs`."""
    if not isinstance(value, list):
        raise malformed("inputs", "a list of objects with a `content`", value)
    if not value:
        raise InputError("is empty; at least one is needed", field="inputs", kind="empty")
    check_count(len(value), "inputs", limit)
    texts, images = [], []
    for place, one in enumerate(value):
        field = f"inputs[{place}].content"
        match one:
            case {"content": [{"type": "text", "text": str(text)}]}:
                texts.append(text)
            case {"content": [{"type": "image_url", "image_url": {"url": str(url)}}]}:
                _check_image(url, field)
                images.append(place)
                texts.append(url)
            case {"content": [_, _, *_]}:
                raise InputError(
                    "has several parts; one text or one image is an input", field=field
                )
            case _:
                raise malformed(field, "a list of one text or one image_url", one)
    return texts, frozenset(images)


def _check_image(text: str, field: str) -> None:
    if not is_data_uri(text):
        raise InputError("must be a data: URI of an image", field=field, kind="invalid_request")
