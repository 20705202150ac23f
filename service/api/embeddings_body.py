"""What POST /v1/embeddings takes: OpenAI's fields, and those of others that speak its format. Of
theirs, what changes a vector is served or refused; what changes none is ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from service.api import fields, schemas
from service.api.purposes import prompt_for
from service.errors import InputError
from service.tasks.images import is_data_uri
from service.tasks.protocol import DEFAULT_OPTIONS, Direction, Options

# The end of a text over the limit that is cut off, as NVIDIA's NIM and Cohere name it.
CUT_ENDS: Mapping[str, Direction] = {"START": "left", "END": "right"}


def _truncation(value: object) -> object:
    if value is None or value is True or value is False or value in ("NONE", *CUT_ENDS):
        return value
    raise PydanticCustomError("truncate", "must be a boolean, NONE, START or END")


_OBJECT = {
    "description": "Jina's form of a text.",
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


def with_objects(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of inputs, which may also come in Jina's form."""
    one_or_more = [_OBJECT, {"type": "array", "items": _OBJECT, "minItems": 1}]
    return {**inputs, "anyOf": [*inputs["anyOf"], *one_or_more]}


class EmbeddingsBody(schemas.Body):
    """What POST /v1/embeddings takes."""

    input: Annotated[Any, Field(json_schema_extra=with_objects(schemas.TEXT_INPUTS))]
    model: str | None = Field(None, description=schemas.ABOUT_MODEL)
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="float, or base64 of little-endian float32"
    )
    dimensions: schemas.Count | None = Field(None, description=schemas.ABOUT_DIMENSIONS)
    user: str | None = Field(None, description="accepted and ignored")
    truncate: Annotated[Any, AfterValidator(_truncation)] = Field(
        None,
        description="an extension: a text over the model's limit is cut at its end (true, END; null"
        " is true) or at its start (START), or refused (false, NONE)",
        json_schema_extra={
            "anyOf": [{"type": "boolean"}, {"enum": [*CUT_ENDS, "NONE"]}, {"type": "null"}]
        },
    )
    prompt_name: str | None = Field(None, description=f"an extension: {schemas.ABOUT_PROMPT}")
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)
    # Jina's, NVIDIA's and Voyage's.
    task: str | None = Field(
        None,
        description="Jina's: what the texts are for, as `retrieval.query`; it chooses the model's"
        " prompt for that, if it has one and `prompt_name` names none",
    )
    input_type: str | None = Field(
        None, description="the same in the words of NVIDIA, Voyage and Cohere: `query`, `passage`"
    )
    embedding_type: Literal["float", "base64"] | None = Field(
        None, description="Jina's encoding_format, over which it wins"
    )
    normalized: fields.OnlyTrue = Field(
        True, description="Jina's: vectors have length 1 here; POST /embed takes normalize: false"
    )
    late_chunking: fields.OnlyFalse = Field(False, description="Jina's: not offered here")
    return_multivector: fields.OnlyFalse = Field(
        False, description="Jina's: POST /embed_all answers a vector for each token"
    )
    output_dimension: schemas.Count | None = Field(
        None, description="Voyage's and Mistral's name of dimensions"
    )
    output_dtype: Literal["float"] | None = Field(None, description="Voyage's and Mistral's")
    # vLLM's.
    truncate_prompt_tokens: fields.TokenLimit | None = Field(
        None, description=fields.ABOUT_TOKEN_LIMIT
    )
    truncation_side: Direction | None = Field(None, description=fields.ABOUT_SIDE)
    add_special_tokens: fields.OnlyTrue = Field(True, description="vLLM's")
    use_activation: fields.OnlyTrue = Field(
        None, description="vLLM's: POST /pooling takes use_activation: false"
    )
    normalize: fields.OnlyTrue = Field(True, description="POST /embed takes normalize: false")
    embed_dtype: Literal["float32"] | None = Field(None, description="vLLM's, of base64")
    endianness: Literal["native", "little"] | None = Field(None, description="vLLM's, of base64")

    @property
    def size(self) -> int | None:
        """Of the vectors. None: all that the model gives."""
        return self.output_dimension if self.dimensions is None else self.dimensions

    @property
    def is_base64(self) -> bool:
        return (self.embedding_type or self.encoding_format) == "base64"

    def options(self, prompts: Iterable[str]) -> Options:
        """`prompts`: the names of those that the model has."""
        prompt = self.prompt_name
        if prompt is None:
            prompt = prompt_for(self.task, prompts) or prompt_for(self.input_type, prompts)
        limit = self.truncate_prompt_tokens
        asked = Options(
            self.truncate not in (False, "NONE"),
            CUT_ENDS.get(self.truncate, self.truncation_side),
            prompt,
            max_tokens=None if limit == -1 else limit,
        )
        return DEFAULT_OPTIONS if asked == DEFAULT_OPTIONS else asked


def plain_inputs(value: object, *, sees_images: bool) -> object:
    """Without the objects that Jina's clients send in place of texts: `{"text": …}`, and where the
    model sees images `{"image": …}`. Raises InputError."""
    if isinstance(value, dict):
        return _plain(value, "input", sees_images=sees_images)
    if not isinstance(value, list) or not any(isinstance(each, dict) for each in value):
        return value
    return [
        _plain(each, f"input[{place}]", sees_images=sees_images) if isinstance(each, dict) else each
        for place, each in enumerate(value)
    ]


def _plain(one: Mapping[str, object], field: str, *, sees_images: bool) -> str:
    match dict(one):
        case {"text": str(text), **more} if not more:
            return text
        case {"image": str(image), **more} if not more:
            if not sees_images:
                rule = "this model takes texts, no images"
            elif is_data_uri(image):
                return image
            else:
                rule = "must be a data: URI of an image"
            raise InputError(rule, field=field, kind="invalid_request")
    rule = 'must be a text, a list of token ids, or an object with just a "text"'
    raise InputError(rule, field=field, kind="invalid_request")
