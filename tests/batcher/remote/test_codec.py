"""What goes over the wire comes back as it was; what is broken is said to be."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher import errors
from batcher.collector import Collector
from batcher.errors import BatcherError, NotReady, Overloaded, Refused, RunnerFailed
from batcher.limits import Limits
from batcher.remote import codec, messages
from batcher.remote.codec import FrameReader, encode
from batcher.remote.messages import (
    CallFailed,
    FrameError,
    Hello,
    Message,
    Query,
    Reply,
    Settled,
    Submit,
    Withdraw,
    batches_from,
    snapshot_from,
)
from batcher.remote.values import Unsendable, pack, rows_of, unpack
from batcher.request import Answer, BatchReport
from batcher.runner import RunnerInfo
from tests.batcher.conftest import examples
from tests.batcher.remote.plain_values import is_same, plain_values
from tests.fakes import FakeClock

REPORT = BatchReport(3, 2, 5, 64, 50, 0.21875, "lengths", 12.5, 0.25, 0.0078125, 0.015625)


def read(data: bytes, pieces: int | None = None) -> list[Message]:
    reader = FrameReader()
    data = bytes(encode(Hello()) + data)
    step = pieces or len(data)
    got: list[Message] = []
    for start in range(0, len(data), step):
        got += reader.feed(data[start : start + step])
    return got[1:]


def settled(*values: Any) -> Settled:
    """Answers to one call."""
    return Settled.of([(1, n, Answer(value, 0.5, REPORT)) for n, value in enumerate(values)])


def read_values(sent: Settled) -> list[Any]:
    [got] = read(encode(sent))
    assert isinstance(got, Settled)
    return [answer.value for _, _, answer in got.answers()]


@given(
    st.integers(0, 2**64 - 1),
    st.floats(min_value=1e-9, allow_nan=False),
    st.integers(0, 7),
    st.none() | st.binary(),
    st.lists(st.tuples(st.integers(1, 2**64 - 1), plain_values), min_size=1, max_size=4),
    st.integers(1, 40),
)
@examples(100)
def test_a_call_arrives_as_it_was_in_whatever_pieces(
    call: int, deadline: float, priority: int, caller: bytes | None, inputs: Any, pieces: int
) -> None:
    costs, payloads = [cost for cost, _ in inputs], [payload for _, payload in inputs]
    frame = encode(Submit(call, deadline, priority, caller, costs, [*map(pack, payloads)]))
    [first, second] = read(2 * frame, pieces)
    assert isinstance(first, Submit)
    sent = (call, deadline, priority, caller, costs)
    assert (first.call, first.deadline, first.priority, first.caller, first.costs) == sent
    assert is_same(first.payloads, payloads)
    assert isinstance(second, Submit)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 999), st.floats(0, 1e9), plain_values),
        min_size=1,
        max_size=5,
    )
)
@examples(50)
def test_answers_arrive_as_they_were_with_their_batch(entries: Any) -> None:
    sent = [(call, index, Answer(value, wait, REPORT)) for call, index, wait, value in entries]
    [got] = read(encode(Settled.of(sent)))
    assert isinstance(got, Settled)
    came = got.answers()
    assert [each[:2] for each in came] == [each[:2] for each in sent]
    assert [each[2].queue_wait for each in came] == [each[2].queue_wait for each in sent]
    assert is_same([each[2].value for each in came], [each[2].value for each in sent])
    assert came[0][2].batch == REPORT
    assert len({id(answer.batch) for _, _, answer in came}) == 1


def test_rows_of_a_batch_travel_as_one_block_and_stay_one() -> None:
    matrix = np.random.default_rng(1).random((64, 384), np.float32)
    sent = settled(*matrix)
    assert len(encode(sent)) < matrix.nbytes + 64 * 20 + 200
    rows = read_values(sent)
    np.testing.assert_array_equal(np.array(rows), matrix)
    assert rows[0].base is rows[63].base
    assert rows[0].flags.aligned


@pytest.mark.parametrize(
    "matrix",
    [
        np.arange(12, dtype=">i4").reshape(3, 4),
        np.arange(12, dtype=np.float16).reshape(3, 2, 2),
        np.zeros((3, 0), np.float32),
    ],
)
def test_rows_of_any_numbers_and_shape_are_one_block(matrix: Any) -> None:
    assert rows_of([*matrix]) is not None
    assert is_same(read_values(settled(*matrix)), [*matrix])


@pytest.mark.parametrize(
    "values",
    [
        [*np.arange(12, dtype=np.float32).reshape(4, 3).T],  # each in several pieces of memory
        [np.zeros(3, np.float32), np.zeros(4, np.float32)],
        [np.zeros(3, np.float32), np.zeros(3, np.float64)],
        [np.zeros(3, np.float32), "text"],
        [np.zeros((), np.float32), np.zeros((), np.float32)],
    ],
)
def test_results_that_are_no_rows_arrive_one_by_one(values: Any) -> None:
    assert rows_of(values) is None
    assert is_same(read_values(settled(*values)), values)


def test_rows_of_objects_are_refused() -> None:
    with pytest.raises(Unsendable, match="an array of object"):
        settled(np.array([object()]), np.array([object()]))


def test_every_field_of_a_report_travels() -> None:
    [got] = read(encode(settled("a")))
    assert isinstance(got, Settled)
    assert len({getattr(REPORT, f.name) for f in dataclasses.fields(REPORT)}) == 11
    assert got.report == REPORT
    [told] = read(encode(Reply.of(1, [REPORT, REPORT])))
    assert isinstance(told, Reply)
    assert batches_from(told.value()) == [REPORT, REPORT]


def test_a_snapshot_arrives_as_it_was_with_all_that_a_runner_reports() -> None:
    info = RunnerInfo.from_facts(
        {
            "model": "m",
            "dimension": 8,
            "profile": [(1, 2, 0.5), (8, 16, 0.25)],
            "backend_failed": {"onnx": "why €"},
            "padding_free": True,
            "memory_bytes": 2**40,
            "own": [1, None, "x"],
        }
    )
    collector = Collector(Limits(), FakeClock(), 2)
    collector.replica_up(0, info)
    ours = collector.snapshot()
    assert ours.replicas[0].info.profile
    [got] = read(encode(Reply.of(1, ours)))
    assert isinstance(got, Reply)
    assert snapshot_from(got.value()) == ours


def all_errors(kind: type[BatcherError] = BatcherError) -> list[type[BatcherError]]:
    below = [found for each in kind.__subclasses__() for found in all_errors(each)]
    return [kind, *below] if kind.__module__ == errors.__name__ else below


@pytest.mark.parametrize("kind", [e for e in all_errors() if e not in (BatcherError, Refused)])
def test_every_error_travels_with_its_fields(kind: type[BatcherError]) -> None:
    text = "why €\ud800"
    error = kind(text, 2.5) if issubclass(kind, Refused) else kind(text)  # type: ignore[call-arg]
    [got] = read(encode(CallFailed.of(7, error)))
    assert isinstance(got, CallFailed)
    came = got.error()
    assert (got.call, type(came), str(came)) == (7, kind, text)
    if isinstance(came, Refused):
        assert came.retry_after == 2.5


def test_an_error_of_somebodys_own_travels_as_the_kind_it_derives_from() -> None:
    class Odd(RunnerFailed):
        pass

    [got] = read(encode(CallFailed.of(7, Odd("why"))))
    assert isinstance(got, CallFailed)
    assert type(got.error()) is RunnerFailed


def test_an_error_of_an_unknown_kind_is_damage() -> None:
    with pytest.raises(FrameError, match="an error of kind 'Odd'"):
        CallFailed(7, "Odd", b"why", 0.0).error()


def test_the_short_ones_arrive() -> None:
    sent = [Withdraw(9, True), Query(3, "snapshot")]
    reply = Reply.of(3, {"a": [1, None, "€\ud800"], "why": NotReady})
    assert read(b"".join(map(encode, [*sent, reply])), 1) == [*sent, reply]
    assert reply.value() == {"a": [1, None, "€\ud800"], "why": str(NotReady)}


class Unfriendly(dict[str, int]):
    """A user's own class, which raises where nobody expects it."""

    def items(self) -> Any:
        raise RuntimeError("not now")

    __iter__ = values = items


@pytest.mark.parametrize("payload", [object(), Unfriendly(a=1), [Unfriendly(a=1)]])
def test_what_cannot_be_sent_is_said_by_name(payload: Any) -> None:
    with pytest.raises(Unsendable, match=r"Unfriendly|builtins\.object"):
        pack(payload)


def test_a_number_out_of_range_is_an_error_of_the_senders() -> None:
    with pytest.raises(Unsendable):
        encode(Submit(1, 1.0, 3, None, [2**64], ["a"]))


def test_what_is_too_large_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_BODY", 100)
    with pytest.raises(Unsendable, match="a frame, which holds 100"):
        encode(Submit(1, 1.0, 3, None, [1, 1], ["a" * 60, "a" * 60]))


def test_a_length_beyond_the_bound_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(FrameError, match="are allowed"):
        FrameReader().feed((codec.MAX_BODY + 1).to_bytes(4, "little"))


@pytest.mark.parametrize("first", [Query(1, "snapshot"), Hello("others", messages.VERSION)])
def test_the_first_frame_is_a_greeting(first: Message) -> None:
    with pytest.raises(FrameError, match="not a greeting"):
        FrameReader().feed(bytes(encode(first)))


def test_the_greeting_is_of_our_version() -> None:
    with pytest.raises(FrameError, match=f"speaks version 1, not {messages.VERSION}"):
        FrameReader().feed(bytes(encode(Hello(version=1))))


WHOLE: list[Message] = [
    Hello(),
    Submit(1, 9.0, 3, b"me", [2, 3], [pack("text"), pack({"a": (np.arange(4.0), 2**70)})]),
    settled(np.ones(4, np.float32), np.zeros(4, np.float32)),
    settled("a", b"b", {(1, "é"): np.float32(1)}),
    CallFailed.of(1, Overloaded("no room", 2.0)),
    Withdraw(1, False),
    Query(1, "snapshot"),
    Reply.of(1, {"a": 1}),
]


def open_all(message: Message) -> None:
    """What the owner of a channel asks of a message."""
    if isinstance(message, Settled):
        message.answers()
    elif isinstance(message, CallFailed):
        message.error()
    elif isinstance(message, Reply):
        message.value()


def greeted() -> FrameReader:
    reader = FrameReader()
    reader.feed(bytes(encode(Hello())))
    return reader


@given(st.integers(0, len(WHOLE) - 1), st.data())
@examples(400)
def test_a_damaged_frame_is_read_or_refused_and_nothing_else(which: int, data: Any) -> None:
    frame = encode(WHOLE[which])
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FrameError):
        for message in greeted().feed(bytes(frame)):
            open_all(message)


@given(st.binary(max_size=200))
@examples(200)
def test_noise_is_read_or_refused(noise: bytes) -> None:
    with contextlib.suppress(FrameError):
        for message in greeted().feed(len(noise).to_bytes(4, "little") + noise):
            open_all(message)


@given(st.integers(-128, 127), st.binary(max_size=60))
@examples(300)
def test_noise_in_an_extension_is_read_or_refused(code: int, noise: bytes) -> None:
    with contextlib.suppress(ValueError, TypeError):
        unpack(code, memoryview(noise))


@pytest.mark.parametrize("message", WHOLE, ids=lambda each: type(each).__name__)
def test_a_frame_cut_short_anywhere_or_too_long_is_refused(message: Message) -> None:
    body = bytes(encode(message))[4:]
    for wrong in [*(body[:length] for length in range(len(body))), body + b"x"]:
        with pytest.raises(FrameError, match="damaged"):
            greeted().feed(len(wrong).to_bytes(4, "little") + wrong)
