"""What goes over the wire comes back as it was; what is broken is said to be."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher import errors
from batcher.errors import BatcherError, NotReady, Overloaded, Refused, RunnerFailed
from batcher.remote import codec, layout, messages
from batcher.remote.messages import FrameError, Message, Submit
from batcher.remote.reader import Reader
from batcher.request import Answer, BatchReport
from tests.batcher.conftest import examples

REPORT = BatchReport(3, 2, 5, 64, 50, "lengths", 12.5, 0.25, 0.0078125, 0.015625)


def read(data: bytes, pieces: int | None = None) -> list[Message]:
    reader = Reader()
    data = codec.hello() + data
    step = pieces or len(data)
    got: list[Message] = []
    for start in range(0, len(data), step):
        got += reader.feed(data[start : start + step])
    return got[1:]


def arrays(kind: str) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    shapes = st.lists(st.integers(0, 4), max_size=3)
    return shapes.map(
        lambda shape: np.arange(np.prod(shape, dtype=int)).astype(kind).reshape(shape)
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
values = (
    st.text(st.characters(exclude_categories=[]))  # lone surrogates too
    | st.binary()
    | st.lists(st.integers(0, 2**31 - 1)).map(lambda ids: np.array(ids, np.int32))
    | st.sampled_from(["<f4", "<f8", ">i2", "|u1", "|b1", "<c8", "<f2"]).flatmap(arrays)
    | json_values
)


class Unfriendly(dict[str, int]):
    """Somebody's own, which raises what nobody expects."""

    def items(self) -> Any:
        raise RuntimeError("not now")


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other) and one.shape == other.shape
    return type(one) is type(other) and bool(one == other)


@given(
    st.integers(0, 2**64 - 1),
    st.floats(min_value=1e-9, allow_nan=False),
    st.integers(0, 255),
    st.none() | st.text(),
    st.lists(st.tuples(st.integers(1, 2**32 - 1), values), min_size=1, max_size=4),
    st.integers(1, 40),
)
@examples(100)
def test_a_call_arrives_as_it_was_in_whatever_pieces(
    call: int, deadline: float, priority: int, caller: str | None, inputs: Any, pieces: int
) -> None:
    costs, payloads = tuple(cost for cost, _ in inputs), [payload for _, payload in inputs]
    sent = codec.submit(Submit(call, deadline, priority, caller, costs, payloads))
    [first, second] = read(2 * sent, pieces)
    assert isinstance(first, messages.Submit)
    assert first[:5] == (call, deadline, priority, caller, costs)
    assert len(first.payloads) == len(payloads)
    assert all(map(is_same, payloads, first.payloads))
    assert isinstance(second, messages.Submit)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 999), st.floats(0, 1e9), values),
        min_size=1,
        max_size=5,
    )
)
@examples(50)
def test_answers_arrive_as_they_were_with_their_batch(entries: Any) -> None:
    sent = [(call, place, Answer(value, wait, REPORT)) for call, place, wait, value in entries]
    [got] = read(codec.settled(sent))
    assert isinstance(got, messages.Settled)
    for (call, place, answer), (call_too, place_too, came) in zip(sent, got.entries, strict=True):
        assert (call, place, answer.queue_wait) == (call_too, place_too, came.queue_wait)
        assert is_same(answer.value, came.value)
        assert came.batch == REPORT
    assert len({id(answer.batch) for _, _, answer in got.entries}) == 1


def test_rows_of_a_batch_travel_as_one_block_and_stay_one() -> None:
    matrix = np.random.default_rng(1).random((64, 384), np.float32)
    sent = codec.settled([(n, 0, Answer(row, 0.0, REPORT)) for n, row in enumerate(matrix)])
    assert len(sent) < matrix.nbytes + 64 * 20 + 200
    [got] = read(sent)
    assert isinstance(got, messages.Settled)
    rows = [answer.value for _, _, answer in got.entries]
    np.testing.assert_array_equal(np.array(rows), matrix)
    assert rows[0].base is rows[63].base
    assert rows[0].flags.aligned


def test_rows_that_do_not_lie_in_one_piece_are_the_same_numbers() -> None:
    columns = np.arange(12, dtype=np.float32).reshape(4, 3).T
    [got] = read(codec.settled([(1, n, Answer(row, 0.0, REPORT)) for n, row in enumerate(columns)]))
    assert isinstance(got, messages.Settled)
    np.testing.assert_array_equal(np.array([a.value for _, _, a in got.entries]), columns)


def test_every_field_of_a_report_travels() -> None:
    [got] = read(codec.settled([(1, 0, Answer("a", 0.0, REPORT))]))
    assert isinstance(got, messages.Settled)
    assert len({getattr(REPORT, f.name) for f in dataclasses.fields(REPORT)}) == 10
    assert got.entries[0][2].batch == REPORT


def all_errors(kind: type[BatcherError] = BatcherError) -> list[type[BatcherError]]:
    below = [found for each in kind.__subclasses__() for found in all_errors(each)]
    return [kind, *below] if kind.__module__ == errors.__name__ else below


@pytest.mark.parametrize("kind", [e for e in all_errors() if e not in (BatcherError, Refused)])
def test_every_error_travels_with_its_fields(kind: type[BatcherError]) -> None:
    error = kind("why €", 2.5) if issubclass(kind, Refused) else kind("why €")  # type: ignore[call-arg]
    [got] = read(codec.failed(7, error))
    assert isinstance(got, messages.Failed)
    assert (got.call, type(got.error), str(got.error)) == (7, kind, "why €")
    if isinstance(got.error, Refused):
        assert got.error.retry_after == 2.5


def test_an_error_of_somebodys_own_travels_as_what_it_is_one_of() -> None:
    class Odd(RunnerFailed):
        pass

    [got] = read(codec.failed(7, Odd("why")))
    assert isinstance(got, messages.Failed)
    assert type(got.error) is RunnerFailed


def test_the_short_ones_arrive() -> None:
    sent = [
        codec.withdraw(9, is_late=True),
        codec.ask(3, "snapshot"),
        codec.told(3, {"a": [1, None, "€"], "why": NotReady}),
    ]
    assert read(b"".join(sent), 1) == [
        messages.Withdraw(9, True),
        messages.Ask(3, "snapshot"),
        messages.Told(3, {"a": [1, None, "€"], "why": str(NotReady)}),
    ]


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
        (np.array([object()]), "an array of object"),
        (Unfriendly(a=1), "Unfriendly"),
    ],
)
def test_what_cannot_travel_is_said_by_name(payload: Any, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        codec.submit(Submit(1, 1.0, 3, None, [1], [payload]))


@pytest.mark.parametrize("call", [(-1, 1.0, 3, None, [1]), (1, 1.0, 300, None, [1])])
def test_a_call_out_of_range_is_an_error_of_ours(call: Any) -> None:
    with pytest.raises(FrameError):
        codec.submit(Submit(*call, ["a"]))
    with pytest.raises(FrameError):
        codec.submit(Submit(1, 1.0, 3, None, [2**32], ["a"]))
    with pytest.raises(FrameError):
        codec.submit(Submit(1, 1.0, 3, "x" * 70_000, [1], ["a"]))


def test_what_is_too_large_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_BODY", 100)
    with pytest.raises(FrameError, match="a frame holds 100"):
        codec.submit(Submit(1, 1.0, 3, None, [1], ["a" * 101]))
    with pytest.raises(FrameError, match="do not fit"):
        codec.submit(Submit(1, 1.0, 3, None, [1, 1], ["a" * 60, "a" * 60]))


def test_a_length_beyond_the_bound_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(FrameError, match="are the most"):
        Reader().feed(struct.pack("<IB", layout.MAX_BODY + 1, 2))


def test_the_first_frame_is_a_greeting_of_our_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FrameError, match="no greeting"):
        Reader().feed(codec.ask(1, "snapshot"))
    monkeypatch.setattr(layout, "VERSION", 2)
    newer = codec.hello()
    monkeypatch.undo()
    with pytest.raises(FrameError, match="speaks version 2, not 1"):
        Reader().feed(newer)


WHOLE = [
    codec.hello(),
    codec.submit(Submit(1, 9.0, 3, "me", [2, 3, 1], ["text", np.arange(4.0), {"a": [1]}])),
    codec.settled([(1, 0, Answer(np.ones(4, np.float32), 0.5, REPORT))]),
    codec.settled([(1, 0, Answer("a", 0.5, REPORT)), (2, 0, Answer(b"b", 0.5, REPORT))]),
    codec.failed(1, Overloaded("no room", 2.0)),
    codec.withdraw(1, is_late=False),
    codec.ask(1, "snapshot"),
    codec.told(1, {"a": 1}),
]


@given(st.integers(0, len(WHOLE) - 1), st.data())
@examples(300)
def test_a_damaged_frame_is_read_or_refused_and_nothing_else(which: int, data: Any) -> None:
    frame = bytearray(WHOLE[which])
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    reader = Reader()
    reader.feed(WHOLE[0])
    with contextlib.suppress(FrameError):
        reader.feed(bytes(frame))


@given(st.binary(max_size=200), st.integers(0, 9))
@examples(200)
def test_noise_of_any_kind_is_read_or_refused(noise: bytes, kind: int) -> None:
    reader = Reader()
    reader.feed(WHOLE[0])
    with contextlib.suppress(FrameError):
        reader.feed(struct.pack("<IB", len(noise), kind) + noise)


@pytest.mark.parametrize("frame", WHOLE[1:5])
def test_a_frame_cut_short_anywhere_or_too_long_is_refused(frame: bytes) -> None:
    kind = frame[4]
    for length in range(len(frame) - 5):
        body = frame[5 : 5 + length]
        if kind == WHOLE[4][4] and length >= struct.calcsize("<QBd"):
            continue  # its text may end anywhere
        reader = Reader()
        reader.feed(WHOLE[0])
        with pytest.raises(FrameError):
            reader.feed(struct.pack("<IB", length, kind) + body)
    if kind != WHOLE[4][4]:
        reader = Reader()
        reader.feed(WHOLE[0])
        with pytest.raises(FrameError, match="too many"):
            reader.feed(struct.pack("<IB", len(frame) - 4, kind) + frame[5:] + b"x")
