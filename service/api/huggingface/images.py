"""Models that see, at POST /: image classification, and for models of images and texts zero-shot
image classification. The body is the image itself, or JSON with the image in base64."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from batcher import NotReady
from service.api import schemas
from service.api.huggingface import feature_extraction
from service.api.huggingface.asked import IMAGES, ZERO_SHOT_IMAGES
from service.api.huggingface.pipeline import Body, HubPipeline
from service.errors import Header, InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.image_classify import ImageClassify
from service.tasks.image_embed import ImageEmbed, ImageOrText, Similarity, TheText
from service.tasks.images import ImageInput
from service.tasks.protocol import Options
from service.tasks.text_inputs import check_count, malformed

_TOP = 5  # labels, as the pipeline of transformers has it
_TEMPLATE = "This is a photo of {}."  # the pipeline's, too
_IMAGE: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "description": "An image in base64, or a data: URI.",
}
_INPUTS = {"anyOf": [_IMAGE, {"type": "array", "items": _IMAGE, "minItems": 1}]}
# An object: as @huggingface/inference sends it.
_OBJECT = {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"]}
_ONE = {"anyOf": [_IMAGE, _OBJECT]}
_LABELS = "parameters.candidate_labels"


class ImageParameters(schemas.Body):
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        None, description="to the logits; null: what fits the model's labels"
    )
    top_k: schemas.Count | None = Field(None, description=f"labels, highest first; null: {_TOP}")


class ImageClassificationBody(schemas.Body):
    """What POST / takes for an image classifier, beside the image itself."""

    inputs: Annotated[Any, Field(json_schema_extra=_INPUTS)]
    parameters: ImageParameters | None = Field(None, description="`function_to_apply`, `top_k`")
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


class ZeroShotParameters(schemas.Body):
    candidate_labels: list[str] = Field(
        description="what the image may show", json_schema_extra={"minItems": 1}
    )
    hypothesis_template: str | None = Field(
        None, description=f"a text with {{}} where a label stands; null: {_TEMPLATE!r}"
    )


class ZeroShotImageBody(schemas.Body):
    """What POST / takes for a model of images and texts, to choose among labels."""

    inputs: Annotated[Any, Field(json_schema_extra=_ONE)]
    parameters: ZeroShotParameters = Field(description="`candidate_labels`, `hypothesis_template`")
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


_NO_PARAMETERS = ImageParameters.model_validate({})


async def classify(state: AppState, exchange: Exchange, given: Body) -> None:
    body = state.fields(ImageClassificationBody, given)
    images, is_list = _parse(body.inputs, state.input_limit)
    asked = body.parameters or _NO_PARAMETERS
    best, timing = await _labels(state, exchange, images, asked, body.priority)
    answer = orjson.dumps(best if is_list else best[0], option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, timing)


async def classify_one(state: AppState, exchange: Exchange, image: bytes) -> None:
    [best], timing = await _labels(state, exchange, [image], _NO_PARAMETERS)
    await exchange.answer(orjson.dumps(best, option=orjson.OPT_SERIALIZE_NUMPY), timing)


async def _labels(
    state: AppState,
    exchange: Exchange,
    images: list[ImageInput],
    asked: ImageParameters,
    priority: int | None = None,
) -> tuple[list[list[dict[str, object]]], Header]:
    """Of each image, the likeliest first; and where the time went."""
    task = state.model().task(ImageClassify)
    results = await state.pipeline.run(exchange, task, images, priority=priority)
    best = [
        task.best(each, asked.top_k or _TOP, asked.function_to_apply) for each in results.values
    ]
    return best, state.pipeline.timing(exchange, results)


async def compare(state: AppState, exchange: Exchange, given: Body) -> None:
    """An image with labels; any other body is one that an embedder takes."""
    parameters = given.get("parameters")
    if isinstance(parameters, dict) and "candidate_labels" in parameters:
        await _zero_shot(state, exchange, state.fields(ZeroShotImageBody, given))
    else:
        await feature_extraction.answer(state, exchange, given)


async def vector_of(state: AppState, exchange: Exchange, image: bytes) -> None:
    results = await state.pipeline.run(exchange, state.model().task(ImageEmbed), [image])
    answer = orjson.dumps(results.values, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


async def _zero_shot(state: AppState, exchange: Exchange, body: ZeroShotImageBody) -> None:
    task = state.model().task(ImageEmbed)
    labels = body.parameters.candidate_labels
    template = body.parameters.hypothesis_template or _TEMPLATE
    if not labels:
        raise InputError("is empty; at least one is needed", field=_LABELS, kind="empty")
    check_count(len(labels) + 1, _LABELS, state.input_limit)
    if template.count("{}") != 1 or len(template.split("{")) != 2 or template.count("}") != 1:
        raise InputError("must hold {} once", field="parameters.hypothesis_template")
    texts = [TheText(template.replace("{}", label)) for label in labels]
    inputs: list[ImageOrText] = [_one(body.inputs), *texts]
    if task.similarity is None:
        task.similarity = await _similarity(state)
    # Two labels that are cut may be one and the same. SigLIP's are, by transformers' pipeline, too.
    options = Options(truncate=task.similarity.function == "sigmoid")
    try:
        results = await state.pipeline.run(
            exchange, task, inputs, options=options, priority=body.priority
        )
    except InputError as error:
        raise error.at("inputs" if error.field == "inputs[0]" else _LABELS) from None
    image, *vectors = results.values
    told = task.similarity.ranked(image, vectors, labels)
    answer = orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
    await exchange.answer(answer, state.pipeline.timing(exchange, results))


async def _similarity(state: AppState) -> Similarity:
    """As a replica has reported it: the numbers are among the model's weights."""
    for replica in (await state.client.snapshot()).replicas:
        if (found := Similarity.of(replica.info.details)) is not None:
            return found
    raise NotReady("the model is being loaded", retry_after=1.0)


def _one(value: object) -> str:
    """Raises InputError."""
    image = value.get("image") if isinstance(value, dict) else value
    if not isinstance(image, str):
        raise malformed("inputs", "an image in base64, or an object that has one as image", value)
    return image


def _parse(value: object, limit: int) -> tuple[list[ImageInput], bool]:
    """The images, and whether they came as a list. Raises InputError."""
    if isinstance(value, str):
        return [value], False
    wanted = "an image in base64, or a list of these"
    if not isinstance(value, list):
        raise malformed("inputs", wanted, value)
    if not value:
        raise InputError("is empty; at least one is needed", field="inputs", kind="empty")
    check_count(len(value), "inputs", limit)
    for place, each in enumerate(value):
        if not isinstance(each, str):
            raise malformed(f"inputs[{place}]", "an image in base64", each)
    return value, True


CLASSIFICATION = HubPipeline(classify, (ImageClassificationBody,), (IMAGES,), classify_one)
COMPARISON = HubPipeline(
    compare,
    (ZeroShotImageBody, *feature_extraction.PIPELINE.bodies),
    (ZERO_SHOT_IMAGES, *feature_extraction.PIPELINE.tasks),
    vector_of,
)
