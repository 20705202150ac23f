"""Documents by their relevance to a query. A cross-encoder reads each with the query; the vectors
of an embedder or of a sparse encoder are compared. Knows no protocol: every dialect of reranking
calls this."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from service.catalog import AnyTask
from service.inference.pipeline import Call, Pipeline, Results
from service.tasks.embed import Embed, Vector
from service.tasks.input_errors import TextNotEncodable
from service.tasks.pairs import Shared
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Options
from service.tasks.score import Score
from service.tasks.sparse import Sparse
from service.tasks.text_inputs import check_count, check_unicode

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Question:
    """`fields`: what the caller calls the query, and the list of documents. `prompts`: the names of
    those that go before each where vectors are compared; None: as the call's options say."""

    query: str
    documents: Sequence[str]
    fields: tuple[str, str] = ("query", "documents")
    prompts: tuple[str, str] | None = None
    first: int = 0  # place of the first document in the caller's list

    def field(self, place: int) -> str:
        """Of a document; -1: of the query."""
        return f"{self.fields[1]}[{self.first + place}]" if place >= 0 else self.fields[0]


def retrieval_prompts(there: Container[str]) -> tuple[str, str] | None:
    """Of a model with prompts of these names, as sentence-transformers' encode_query and
    encode_document have it, whatever the default prompt is."""
    return ("query", "document") if "query" in there and "document" in there else None


class Ranker(Protocol):
    """How models of one task rank."""

    queries: int  # inputs beside the documents, before them

    def inputs(self, query: str, documents: Sequence[str]) -> list[Any]:
        """What the task is asked."""

    def scores(self, task: Any, values: list[Any], *, raw: bool) -> Scores:
        """Of the documents, from the task's results. From 0 to 1, unless `raw`."""


class ByPair:
    """A cross-encoder: the sigmoid of each pair's logit, or the logit itself. The sigmoid of a
    regression, too, as CrossEncoder has it: trainers write that of all models with one label."""

    queries = 0

    def inputs(self, query: str, documents: Sequence[str]) -> list[Any]:
        shared = Shared(query)
        return [(shared, document) for document in documents]

    def scores(self, task: Score, values: list[Any], *, raw: bool) -> Scores:
        logits = np.concatenate(values)
        return logits if raw else task.scores(logits, "sigmoid")


class ByCosine:
    """An embedder: the cosine of query and document, or 0 where it is negative and not raw."""

    queries = 1

    def inputs(self, query: str, documents: Sequence[str]) -> list[Any]:
        return [query, *documents]

    def scores(self, task: Embed, values: list[Any], *, raw: bool) -> Scores:
        found = cosines(values[0], values[1:])
        return found if raw else np.maximum(found, np.float32(0))


class ByDotProduct:
    """A sparse encoder: the dot product of query and document, which has no upper bound; from 0 to
    1 it is x / (1 + x), in the same order."""

    queries = 1

    def inputs(self, query: str, documents: Sequence[str]) -> list[Any]:
        return [query, *documents]

    def scores(self, task: Sparse, values: list[Any], *, raw: bool) -> Scores:
        query = np.zeros(task.vocabulary)  # not looked up by index: a vector may have most words
        query[values[0].indices] = values[0].weights
        found = np.array([query[each.indices] @ each.weights for each in values[1:]])
        return (found if raw else found / (1 + found)).astype(np.float32)


# By the name of the task.
RANKERS: Mapping[str, Ranker] = {
    Score.name: ByPair(),
    Embed.name: ByCosine(),
    Sparse.name: ByDotProduct(),
}


def task_that_ranks(tasks: Mapping[str, AnyTask]) -> AnyTask | None:
    return next((task for name, task in tasks.items() if name in RANKERS), None)


async def relevance(
    pipeline: Pipeline,
    call: Call,
    task: AnyTask,  # of a name in RANKERS
    question: Question,
    limit: int,  # of the inputs of one call
    options: Options = DEFAULT_OPTIONS,
    priority: int | None = None,  # None: the call's
    *,
    raw: bool = False,
) -> tuple[Scores, Results[Any]]:
    """Of each document, in their order. Raises what Pipeline.run raises."""
    return await relevance_of_all(
        pipeline, call, task, [question], limit, options, priority, raw=raw
    )


async def relevance_of_all(
    pipeline: Pipeline,
    call: Call,
    task: AnyTask,
    questions: Sequence[Question],
    limit: int,
    options: Options = DEFAULT_OPTIONS,
    priority: int | None = None,
    *,
    raw: bool = False,
) -> tuple[Scores, Results[Any]]:
    """The same for several questions: of the documents of the first, then of the next."""
    ranker = RANKERS[task.name]
    sizes = [ranker.queries + len(question.documents) for question in questions]
    check_count(sum(sizes), questions[0].fields[1], limit)
    inputs: list[Any] = []
    asked: AnyTask = task
    for question in questions:
        try:
            check_unicode(question.query)
        except TextNotEncodable as error:
            raise error.at(question.fields[0]) from None
        found = ranker.inputs(question.query, question.documents)
        if ranker.queries and question.prompts is not None:
            asked = WithOptions(task)
            of_query, of_document = (
                replace(options, prompt_name=name) for name in question.prompts
            )
            found = [(one, of_document if place else of_query) for place, one in enumerate(found)]
        inputs += found

    def field(place: int) -> str:
        for question, size in zip(questions, sizes, strict=True):
            if place < size:
                return question.field(place - ranker.queries)
            place -= size
        raise IndexError(place)

    results = await pipeline.run(call, asked, inputs, field, options, priority)
    scores, start = [], 0
    for size in sizes:
        scores.append(ranker.scores(task, results.values[start : start + size], raw=raw))
        start += size
    return np.concatenate(scores), results


class WithOptions:
    """A task whose inputs have options of their own."""

    name: ClassVar[str] = "with-options"

    def __init__(self, task: AnyTask) -> None:
        self._task = task

    def preprocess(self, one: tuple[Any, Options], options: Options) -> ModelInput:
        return self._task.preprocess(*one)

    def is_heavy(self, inputs: Sequence[tuple[Any, Options]]) -> bool:
        return self._task.is_heavy([one for one, _ in inputs])

    def result(self, value: object) -> Any:
        return self._task.result(value)


def ranked(scores: Scores) -> list[int]:
    """The places of the highest first. Of equal ones the later is first, as
    text-embeddings-inference sorts."""
    places: list[int] = np.argsort(scores, kind="stable")[::-1].tolist()
    return places


def earlier_first(scores: Scores) -> list[int]:
    """The same; of equal ones the earlier is first, as vLLM and Infinity sort."""
    places: list[int] = np.argsort(-scores, kind="stable").tolist()
    return places


def cosines(one: Vector, others: Sequence[Vector]) -> Scores:
    """From -1 to 1; 0 for a vector of zeros."""
    matrix = np.stack(others).astype(np.float64)
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(one.astype(np.float64))
    found = matrix @ one.astype(np.float64) / np.where(lengths == 0, 1, lengths)
    return np.clip(found, -1, 1).astype(np.float32)
