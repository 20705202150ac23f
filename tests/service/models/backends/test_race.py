"""Which backend is taken, by what each took for the same traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from service.models.backends import Answers, Ids, Types
from service.models.backends.paired import PairedBackend
from service.models.backends.race import (
    ALONE,
    MIXED,
    SHORT,
    TRAFFIC,
    BackendFailed,
    benchmark,
    choose,
    cut,
    from_note,
)
from service.repository.spec import EncoderSpec

SPEC = EncoderSpec(Path(), "mean", True, 512, 1, 99, 0, False, "")


class Counting:
    """Notes the lengths of the batches that it runs."""

    name, dtype, versions = "counting", "float32", ""

    def __init__(self, *, padding_free: bool) -> None:
        self._facts = {"padding_free": padding_free}
        self.ran: list[list[int]] = []

    def facts(self) -> Mapping[str, object]:
        return self._facts

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        self.ran.append([len(ids) for ids in sequences])
        return np.zeros((len(sequences), 1), dtype=np.float32)

    def close(self) -> None: ...


def test_a_backend_that_is_nowhere_far_behind_is_taken_alone() -> None:
    times = {"torch": {ALONE: 1.5, SHORT: 1.0}, "onnx": {ALONE: 1.0, SHORT: 1.3}}
    assert choose(times, may_pair=True) == ("onnx", "onnx")
    assert choose({"torch": {ALONE: 9.0}}, may_pair=True) == ("torch", "torch")


def test_where_none_is_near_the_best_one_runs_a_text_alone_and_one_more() -> None:
    times = {
        "torch": {ALONE: 1.8, SHORT: 1.0, MIXED: 1.1},
        "onnx": {ALONE: 1.0, SHORT: 1.6, MIXED: 1.0},
    }
    assert choose(times, may_pair=True) == ("onnx", "torch")
    assert choose(times, may_pair=False) == ("onnx", "onnx")
    torch_too = {"torch": {ALONE: 1.0, SHORT: 1.0, MIXED: 1.1}, "onnx": times["onnx"]}
    assert choose(torch_too, may_pair=True) == ("torch", "torch")


def test_of_a_pair_the_one_for_more_says_whether_padding_is_free() -> None:
    alone, together = Counting(padding_free=False), Counting(padding_free=True)
    pair = PairedBackend(alone, together)
    pair.forward([np.zeros(4, np.int32)])
    pair.forward([np.zeros(1, np.int32)] * 2)
    assert (alone.ran, together.ran) == ([[4]], [[1, 1]])
    assert pair.facts()["padding_free"] is True
    assert PairedBackend(together, alone).facts()["padding_free"] is False


def test_a_backend_that_pads_gets_texts_of_like_length_and_another_all_at_once() -> None:
    lengths = (5, 40, 8, 36, 6, 7)
    assert cut(lengths, 64, pads=False) == [lengths]
    assert cut(lengths, 64, pads=True) == [[40, 36], [8, 7, 6], [5]]


def test_no_batch_of_the_race_is_larger_than_those_of_the_service() -> None:
    lengths = (5, 40, 8, 36, 6, 7)
    assert cut(lengths, 4, pads=False) == [(5, 40, 8, 36), (6, 7)]
    assert cut(lengths, 2, pads=True) == [[40, 36], [8, 7], [6, 5]]
    assert cut(lengths, 1, pads=True) == [[40], [36], [8], [7], [6], [5]]


def test_who_cannot_run_what_is_raced_is_named() -> None:
    class Broken(Counting):
        def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
            raise RuntimeError("no such shape")

    with pytest.raises(BackendFailed, match="no such shape") as failed:
        benchmark({"a": Counting(padding_free=True), "b": Broken(padding_free=False)}, SPEC, 64)
    assert failed.value.name == "b"


def test_all_run_the_same_texts_each_in_its_own_batches() -> None:
    packed, padded = Counting(padding_free=True), Counting(padding_free=False)
    times = benchmark({"packed": packed, "padded": padded}, SPEC, 64)
    assert [list(each) for each in times.values()] == [list(TRAFFIC)] * 2
    assert len(packed.ran) < len(padded.ran)
    assert sorted(n for b in packed.ran for n in b) == sorted(n for b in padded.ran for n in b)
    assert from_note(times) == times


def test_batches_are_of_new_shapes_in_each_round_and_lone_texts_are_not() -> None:
    backend = Counting(padding_free=True)
    benchmark({"a": backend}, SPEC, 64)
    alone = [batch for batch in backend.ran if len(batch) == 1]
    short = [batch[0] for batch in backend.ran if len(batch) == 64]
    assert len({tuple(batch) for batch in alone}) == len(TRAFFIC[ALONE]) < len(alone)
    assert short[:6] == [11, 10, 9, 8, 7, 6]


def test_without_time_the_first_traffic_is_raced_all_the_same() -> None:
    times = benchmark({"a": Counting(padding_free=True)}, SPEC, 64, budget=0.0)
    assert list(times["a"]) == [next(iter(TRAFFIC))]


@pytest.mark.parametrize(
    "note",
    [
        {},
        {"a": {}},
        {"a": {ALONE: -1.0}},
        {"a": {ALONE: 1.0}, "b": {ALONE: 1.0, SHORT: 1.0}},
        {"a": {ALONE: "x"}},
        {"a": {SHORT: 1.0}},
        {"a": [1.0]},
    ],
)
def test_a_note_that_makes_no_sense_is_refused(note: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        from_note(note)
