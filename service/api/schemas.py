"""JSON schemas that routes share: fields of bodies, and what the answers look like.

No answer is built from these shapes: they would cost more than the answers themselves, and a test
holds the answers to them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.tasks.text_inputs import whole

Count = Annotated[int, Field(ge=1), BeforeValidator(whole)]
Priority = Annotated[int, Field(ge=0, le=7), BeforeValidator(whole)]

# Of less than 1 it is for the task to say what is wrong: a protocol may have a status for that.
Dimensions = Annotated[int, Field(json_schema_extra={"minimum": 1}), BeforeValidator(whole)]

ABOUT_DIMENSIONS = "how many numbers of each vector to keep"
ABOUT_PROMPT = (
    "which of the model's prompts goes before each text; the default is the model's own, or none"
)
ABOUT_PRIORITY = (
    "an extension: 0 is soonest, 3 the default, 7 last; 4 to 7 are bulk and get the capacity"
    " that 0 to 3 leave. It wins over the Priority header"
)

ABOUT_MODEL = (
    "the name of the served model, or its last part; any other, or none, means the same, unless"
    " BATCHER_STRICT_MODEL_NAME makes it a 404"
)

TEXT_INPUTS: dict[str, Any] = {
    "description": "A text, a list of token ids, or a list of these.",
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                ]
            },
        },
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
    ],
}


TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


class Body(BaseModel):
    """Of a request in another service's format. Its clients send what that service takes, so
    unknown fields are ignored, unless BATCHER_UNKNOWN_FIELDS says otherwise."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Embedding(Shape):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str  # base64 of little-endian float32


class Usage(Shape):
    prompt_tokens: int
    total_tokens: int


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


class EmbeddingsAnswer(Shape):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(Shape):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Shape):
    object: Literal["list"]
    data: list[Model]


class OpenAIErrorDetails(Shape):
    message: str
    type: str
    param: str | None
    code: str | None
    request_id: str


class OpenAIError(Shape):
    error: OpenAIErrorDetails


class TEIError(Shape):
    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]
    code: str
    request_id: str


class Health(Shape):
    status: Literal["alive", "ready", "not ready"]
    reason: str | None = None
    request_id: str | None = None  # with a reason, as the next two
    error: Literal["unhealthy"] | None = None
    error_type: Literal["Unhealthy"] | None = None
    replicas_up: int | None = None
    replicas: int | None = None


class BatchSummary(Shape):
    replica: int
    size: int = Field(description="rows the device ran")
    requests: int = Field(description="inputs answered; equal inputs share a row")
    tokens: int = Field(description="with padding")
    useful_tokens: int
    padding_ratio: float
    reason: str = Field(description="why the batch was closed")
    oldest_wait_ms: float
    predicted_ms: float
    inference_ms: float = Field(description="0: the batch failed")
    closed_ago_s: float


class Pooling(Shape):
    pooling: str | None


class Labels(Shape):
    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(Shape):
    """One of these; none: a model of the user's own, for POST /v1/predict alone."""

    embedding: Pooling | None = None
    classifier: Labels | None = None
    reranker: Labels | None = None  # a cross-encoder: a classifier with one label
    token_classifier: Labels | None = None


class Prediction(Shape):
    label: str
    score: float


class Rank(Shape):
    index: int
    score: float
    text: str | None = None  # where it was asked for


class TokenDetails(Shape):
    id: int
    text: str
    special: bool = Field(description="added by the tokenizer, as [CLS] is")
    start: int | None = Field(description="bytes of the text in UTF-8; null: it is special")
    stop: int | None


class SparseValue(Shape):
    """Of a word of the model's vocabulary, by its token id."""

    index: int
    value: float


class Place(Shape):
    """Null: not up yet, or that is up to the runner; cores as Linux writes them, null: any."""

    device: str | None
    cores: str | None


class Info(Shape):
    """`backend_chosen` says how; `backend_failed`: which did not run the model, and why; `compile`:
    on, or why the model is not compiled; null: not asked for, or none. Null also stands for what a
    runner of the user's own does not tell."""

    model_id: str
    model_sha: str | None
    model_dtype: str | None
    served_model_name: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int | None
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int
    auto_truncate: bool
    prompts: dict[str, str]
    default_prompt_name: str | None
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    device: str | None
    backend: str | None
    backend_chosen: str | None
    backend_failed: dict[str, str] | None
    compile: str | None
    dimension: int | None
    source: str | None = Field(description="the files, or the setting, that say what it means")
    reference_distance: float | None = Field(
        description="how far its answers are from the reference library's own in float32"
    )
    replicas: int
    places: list[Place]
    isolation: str
    frontends: int
