"""Token classifiers at POST /: entities, or a label for each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field

from service.api import schemas
from service.api.huggingface.asked import TOKENS
from service.api.huggingface.pipeline import Body, HubPipeline, is_of_javascript
from service.errors import InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.entities import Strategy
from service.tasks.protocol import Options
from service.tasks.tag import MANY_TOKENS, Grouping, Logits, Tag, Tokenised
from service.tasks.text_inputs import check_count, parse_texts, whole

_TEXT: dict[str, Any] = {"type": "string"}
_INPUTS = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}


class TaggingParameters(schemas.Body):
    """As transformers' pipeline names them."""

    aggregation_strategy: Strategy | None = Field(
        None, description="how tokens become entities; none (the default): each token by itself"
    )
    ignore_labels: list[str] | None = Field(None, description='labels left out; null: ["O"]')
    stride: Annotated[int, Field(ge=0), BeforeValidator(whole)] | None = Field(
        None,
        description="a text over the model's limit is read in parts that share so many tokens;"
        " null: it is cut",
    )


class TokenClassificationBody(schemas.Body):
    """What POST / takes for a token classifier."""

    inputs: Annotated[
        Any, Field(description="a text, or a list of texts", json_schema_extra=_INPUTS)
    ]
    parameters: TaggingParameters | None = None
    priority: schemas.Priority | None = Field(None, description=schemas.ABOUT_PRIORITY)


_NO_PARAMETERS = TaggingParameters.model_validate({})


async def answer(state: AppState, exchange: Exchange, given: Body) -> None:
    body = state.fields(TokenClassificationBody, given)
    task = await state.task(Tag)
    texts = parse_texts(body.inputs, "inputs", state.input_limit)
    # That client takes entities only, as Hugging Face's own API answers where nothing is said.
    unsaid: Strategy = "simple" if is_of_javascript(exchange) else "none"
    grouping = _grouping(task, body.parameters or _NO_PARAMETERS, unsaid)
    deadline = exchange.started + exchange.timeout

    async def run(is_long: bool, function: Any, *given: Any) -> Any:
        if is_long:
            return await state.offload.run(deadline, function, *given, caller=exchange.caller)
        return function(*given)

    tokenised = await run(task.are_long(texts), _tokenise, task, texts, grouping.stride)
    windows = [window for each in tokenised for window in each.windows]
    check_count(len(windows), "inputs", state.input_limit)
    results = await state.pipeline.run(exchange, task, windows, priority=body.priority)
    is_long = results.cost > MANY_TOKENS
    found = await run(is_long, _entities, task, tokenised, results.values, grouping)
    told = b"[" + b",".join(found) + b"]" if isinstance(body.inputs, list) else found[0]
    await exchange.answer(told, state.pipeline.timing(exchange, results))


def _grouping(task: Tag, asked: TaggingParameters, unsaid: Strategy) -> Grouping:
    """Raises InputError."""
    if asked.stride is not None and asked.aggregation_strategy == "none":
        rule = "needs an aggregation_strategy other than none"
        raise InputError(rule, field="parameters.stride")
    ignored = ("O",) if asked.ignore_labels is None else tuple(asked.ignore_labels)
    grouping = Grouping(asked.aggregation_strategy or unsaid, ignored, asked.stride)
    try:
        task.check_stride(grouping)
    except InputError as error:
        raise error.at("parameters.stride") from None
    return grouping


def _tokenise(task: Tag, texts: Sequence[str], stride: int | None) -> list[Tokenised]:
    """Raises InputError."""
    tokenised: list[Tokenised] = []
    for place, text in enumerate(texts):
        try:
            tokenised.append(task.tokenise(text, Options(), stride))
        except InputError as error:
            raise error.at(f"inputs[{place}]" if len(texts) > 1 else "inputs") from None
    return tokenised


def _entities(
    task: Tag, tokenised: Sequence[Tokenised], answers: Sequence[Logits], grouping: Grouping
) -> list[bytes]:
    """Of each text, as JSON. Raises RunnerFailed."""
    told, first = [], 0
    for each in tokenised:
        end = first + len(each.windows)
        entities = task.entities(each, answers[first:end], grouping)
        told.append(orjson.dumps(entities, option=orjson.OPT_SERIALIZE_NUMPY))
        first = end
    return told


PIPELINE = HubPipeline(answer, (TokenClassificationBody,), (TOKENS,))
