"""Documents by their relevance, with no engine and no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import InputError
from service.inference.offload import OffloadPool
from service.inference.pipeline import Pipeline
from service.inference.ranking import (
    RANKERS,
    Question,
    cosines,
    ranked,
    relevance,
    task_that_ranks,
)
from service.tasks.custom import Predict
from service.tasks.embed import Embed
from service.tasks.plain_text import SimulatedTokenizer
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Options
from service.tasks.score import Score
from tests.fakes import FakeClock
from tests.service.conftest import FakeClient


class Pairs(SimulatedTokenizer):
    def prepare_pair(
        self, first: str, second: str, options: Options = DEFAULT_OPTIONS
    ) -> ModelInput:
        if not options.truncate:
            self.prepare(second, options)
        return ModelInput([first, second], 2)


class Caller:
    started, timeout, priority, caller = 0.0, 30.0, 3, "me"


def vector(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def asked(
    task: Any, answer: Callable[[Any], Any], *documents: str, limit: int = 256, **options: Any
) -> tuple[list[float], FakeClient]:
    clock = FakeClock()
    client = FakeClient(answer=answer)
    offload = OffloadPool(clock)
    pipeline = Pipeline(client, clock, offload)  # type: ignore[arg-type]  # a fake
    question = Question(options.pop("query", "what"), documents)
    try:
        scores, _ = asyncio.run(relevance(pipeline, Caller(), task, question, limit, **options))
    finally:
        offload.close()
    return scores.tolist(), client


EMBED = Embed(SimulatedTokenizer(max_length=4))
SCORE = Score(Pairs(max_length=4), ["relevance"], "sigmoid")
VECTORS = {"what": vector(2, 0), "same": vector(5, 0), "across": vector(0, 1), "not": vector(-1, 0)}


def test_an_embedder_ranks_by_the_cosine_and_below_zero_is_zero() -> None:
    scores, client = asked(EMBED, VECTORS.__getitem__, "same", "across", "not")
    assert scores == [1, 0, 0]
    assert client.last.payloads == ["what", "same", "across", "not"]
    scores, _ = asked(EMBED, VECTORS.__getitem__, "same", "across", "not", raw=True)
    assert scores == [1, 0, -1]


def test_a_cross_encoder_reads_each_document_with_the_query() -> None:
    logits = {"no": -2.0, "yes": 3.0}
    scores, client = asked(SCORE, lambda pair: vector(logits[pair[1]]), "no", "yes", raw=True)
    assert scores == [-2, 3]
    assert client.last.payloads == [["what", "no"], ["what", "yes"]]
    for task in (SCORE, Score(Pairs(max_length=4), ["relevance"], "none")):  # a regression
        scores, _ = asked(task, lambda pair: vector(logits[pair[1]]), "no", "yes")
        np.testing.assert_allclose(scores, [0.11920292, 0.95257413], rtol=1e-6)


def test_the_input_at_fault_is_named_as_the_caller_calls_it() -> None:
    for task in (EMBED, SCORE):
        with pytest.raises(InputError) as raised:
            asked(task, lambda _: vector(1), "a", "b " * 5, options=Options(truncate=False))
        assert raised.value.field == "documents[1]"
        with pytest.raises(InputError) as raised:
            asked(task, lambda _: vector(1), "a", query="\ud800")
        assert raised.value.field == "query"
    with pytest.raises(InputError) as raised:
        asked(EMBED, lambda _: vector(1), "a", query="b " * 5, options=Options(truncate=False))
    assert raised.value.field == "query"


def test_an_embedders_query_counts_as_one_of_the_inputs() -> None:
    assert len(asked(SCORE, lambda _: vector(1), "a", "b", limit=2)[0]) == 2
    assert len(asked(EMBED, lambda _: vector(1), "a", limit=2)[0]) == 1
    for task, documents in ((SCORE, "abc"), (EMBED, "ab")):
        with pytest.raises(InputError, match="3 inputs; one request may have at most 2") as raised:
            asked(task, lambda _: vector(1), *documents, limit=2)
        assert raised.value.field == "documents"


def test_the_highest_is_first_and_of_equal_ones_the_later() -> None:
    assert ranked(vector(0.5, 0.75, 0.5, 0.25)) == [1, 2, 0, 3]
    assert ranked(vector(1)) == [0]


def test_cosines_are_those_of_the_angles_whatever_the_lengths() -> None:
    got = cosines(vector(1, 1), [vector(1e-20, 0), vector(-3e18, -3e18), vector(0, 0)])
    np.testing.assert_allclose(got, [0.5**0.5, -1, 0], rtol=1e-6)
    one = vector(*[0.1] * 384)
    assert cosines(one, [one])[0] == 1.0
    assert cosines(vector(0, 0), [vector(1, 0)])[0] == 0


def test_a_model_that_cannot_rank_is_told_apart() -> None:
    assert task_that_ranks({"predict": Predict()}) is None
    assert task_that_ranks({"predict": Predict(), "embed": EMBED}) is EMBED
    assert set(RANKERS) >= {"embed", "score"}
