"""What the API description says of bodies for the model at hand: its names, prompts, sizes and
limits. A body that the narrowed schema allows is one that this model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from service.api import schemas
from service.api.embeddings_body import EmbeddingsBody, with_objects
from service.catalog import ServedModel
from service.tasks.embed import Embed
from service.tasks.image_embed import ImageEmbed

Schema = dict[str, Any]

# What fields are called, by the protocol.
_DIMENSIONS = {"dimensions", "output_dimension"}
_TOKEN_LIMITS = {"truncate_prompt_tokens", "max_tokens", "num_ctx"}
_TEXTS: Schema = {
    "description": "A text, or a list of texts.",
    "anyOf": [{"type": "string"}, schemas.TEXTS],
}


def narrow(
    described: dict[str, Schema],
    bodies: Iterable[type[BaseModel]],
    served: ServedModel | None,
    dimension: int | None,
    *,
    takes_ids: bool,
) -> None:
    """`described`: the schemas of bodies, and of what is in them, by name."""
    if not takes_ids:
        for body in bodies:
            if issubclass(body, EmbeddingsBody):
                described[body.__name__]["properties"]["input"] |= with_objects(_TEXTS)
    if dimension is not None:
        for one in _fields(described, _DIMENSIONS):
            one["anyOf"][0] |= _sizes(served, dimension)
    if served is None:
        return
    if not served.takes_any_name:
        for body in bodies:
            properties = described[body.__name__]["properties"]
            if "model" in properties:
                properties["model"]["anyOf"][0]["enum"] = sorted(served.aliases)
    for one in _fields(described, {"prompt_name"}):
        names = {"enum": sorted(served.prompts)} if served.prompts else {"type": "null"}
        one["anyOf"][0] = names
    if served.tokenizer is None:
        for one in _fields(described, {"max_tokens_per_doc"}):
            one["anyOf"][0] = {"const": 0}
    else:
        _raise_token_limits(described, served.tokenizer.least_limit)
    if ImageEmbed.name not in served.tasks:
        for one in _fields(described, {"modality"}):
            one["anyOf"][0] = {"const": "text"}
    if served.max_length is None:
        _take_whole_texts(described)


def _fields(described: dict[str, Schema], names: set[str]) -> Iterator[Schema]:
    for schema in described.values():
        for name in names & schema.get("properties", {}).keys():
            if "anyOf" in (one := schema["properties"][name]):  # else it is not offered at all
                yield one


def _sizes(served: ServedModel | None, dimension: int) -> Schema:
    """What the numbers of a vector may be cut to."""
    task = served.tasks.get(Embed.name) if served is not None else None
    if isinstance(task, Embed) and task.sizes:
        return {"enum": sorted({*(size for size in task.sizes if size < dimension), dimension})}
    return {"maximum": dimension}


def _raise_token_limits(described: dict[str, Schema], least: int) -> None:
    for one in _fields(described, _TOKEN_LIMITS):
        for way in one["anyOf"][0].get("anyOf", [one["anyOf"][0]]):
            if "minimum" in way:
                way["minimum"] = least


def _take_whole_texts(described: dict[str, Schema]) -> None:
    """Of a runner that is given every text as it came."""
    for one in _fields(described, _TOKEN_LIMITS):
        first = one["anyOf"][0]
        one["anyOf"][0] = {"const": -1} if "anyOf" in first else {"type": "null"}
    for one in _fields(described, {"truncation_side", "truncate"}):
        for way in one["anyOf"]:
            if "enum" in way:
                way["enum"] = [each for each in way["enum"] if each not in ("left", "START")]
