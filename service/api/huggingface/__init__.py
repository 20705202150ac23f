"""POST /, as `huggingface_hub.InferenceClient(model="http://…")` calls it: one path for all that a
model may be for. The task of the model says which of these files answers; a body that is one of
text-embeddings-inference's is answered as its own route would. SageMaker calls it /invocations, and
Vertex AI sends several bodies at once to /vertex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from service.api import schemas
from service.api.huggingface import (
    asked,
    feature_extraction,
    images,
    sparse_embedding,
    text_classification,
    token_classification,
    vertex,
)
from service.api.huggingface.pipeline import Body, HubPipeline
from service.api.routes import INFERENCE, Route, WireProtocol
from service.api.tei import ERRORS
from service.catalog import TASKS
from service.errors import Problem, WrongTask
from service.http.body import Headers, parse
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.classify import Classify
from service.tasks.embed import Embed
from service.tasks.image_classify import ImageClassify
from service.tasks.image_embed import ImageEmbed
from service.tasks.score import Score
from service.tasks.sparse import Sparse
from service.tasks.tag import Tag

# By the name of the task. A model of images has a task for texts that stand for them as well, which
# comes later among its tasks.
PIPELINES: Mapping[str, HubPipeline] = {
    ImageClassify.name: images.CLASSIFICATION,
    ImageEmbed.name: images.COMPARISON,
    Embed.name: feature_extraction.PIPELINE,
    Sparse.name: sparse_embedding.PIPELINE,
    Classify.name: text_classification.OF_LABELS,
    Score.name: text_classification.OF_RELEVANCE,
    Tag.name: token_classification.PIPELINE,
}


async def run(state: AppState, exchange: Exchange) -> None:
    for name in (await state.decided()).tasks:
        if name in PIPELINES:
            await _run(PIPELINES[name], state, exchange)
            return
    others = " or ".join(TASKS[name].routes for name in state.tasks)
    raise WrongTask(f"this route is not for the model that is served here: use {others}")


async def _run(pipeline: HubPipeline, state: AppState, exchange: Exchange) -> None:
    given = await exchange.json_or_bytes()
    if isinstance(given, bytes):
        if pipeline.see is not None:
            await pipeline.see(state, exchange, given)
            return
        given = _text_body(given, exchange.headers, pipeline)
    asked.check(given, pipeline.tasks)
    await pipeline.answer(state, exchange, given)


def _text_body(data: bytes, headers: Headers, pipeline: HubPipeline) -> Body:
    """Of what does not begin as an object. Raises Problem 400, WrongTask."""
    try:
        return parse(data)
    except Problem:
        says_json = headers.get(b"content-type", b"").startswith(b"application/json")
        if says_json or data.isascii():
            raise
        why = "the body is a file (an image or audio), not JSON"
        raise asked.not_served(why, pipeline.tasks) from None


async def run_instances(state: AppState, exchange: Exchange) -> None:
    await vertex.run(state, exchange, run)


_ROOT = Route(
    "POST",
    "/",
    run,
    "What the model is for, as huggingface_hub's InferenceClient asks it",
    {"type": "array"},
    (*INFERENCE, 424),
    tasks=tuple(PIPELINES),
    bodies={name: pipeline.bodies for name, pipeline in PIPELINES.items()},
)

PROTOCOL = WireProtocol(
    ERRORS,
    schemas.TEIError,
    (
        _ROOT,
        replace(_ROOT, path="/invocations", summary="The same, where SageMaker looks for it"),
        Route(
            "POST",
            "/vertex",
            run_instances,
            "Several bodies of POST / at once, in the format of Vertex AI",
            vertex.VertexAnswer,
            (*INFERENCE, 424),
            vertex.VertexBody,
            tasks=tuple(PIPELINES),
        ),
    ),
)
