"""The wire between a front and the engine, as bytes. No socket, no loop, no clock, and no pickle.

A frame is the length of its body, its kind, and the body; little-endian. The first one each way is
a Hello that names the version. Whatever is no such frame is a FrameError: nothing that comes after
it can be trusted. Made for many small calls: what a batch has in common is written once, and rows
of float32 travel as one block.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from batcher.arrays import is_array
from batcher.errors import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    OutOfMemory,
    Overloaded,
    PoisonRequest,
    Refused,
    RunnerFailed,
    WorkerLost,
)
from batcher.request import Answer, BatchReport

VERSION = 1
MAX_BODY = 1 << 28  # bytes; a batch of 4,096 vectors of 16,384 numbers

Json = Any


class FrameError(Exception):
    """What came is no frame of ours; or what is to be sent fits in none."""


class Hello(NamedTuple):
    version: int


class Submit(NamedTuple):
    """One call: all of its inputs are admitted or none. Answered by Answers, or one Failed."""

    call: int
    deadline: float  # absolute, on the clock that all processes of a machine share
    priority: int
    caller: str | None
    costs: Sequence[int]
    payloads: Sequence[Any]


class Withdraw(NamedTuple):
    """The caller of that call has gone, or its deadline has come."""

    call: int
    is_late: bool


class Settled(NamedTuple):
    """Answers out of one batch: of which call, which of its inputs, and what."""

    entries: Sequence[tuple[int, int, Answer]]


class Failed(NamedTuple):
    """The call, with all that is left of it."""

    call: int
    error: BatcherError


class Ask(NamedTuple):
    number: int
    subject: str


class Told(NamedTuple):
    number: int
    value: Json


Message = Hello | Submit | Withdraw | Settled | Failed | Ask | Told

_HEAD = struct.Struct("<IB")
_HELLO, _SUBMIT, _WITHDRAW, _SETTLED, _FAILED, _ASK, _TOLD = range(1, 8)
_MARK = b"btch"
_HELLO_BODY = struct.Struct("<4sH")
_SUBMIT_BODY = struct.Struct("<QdBHI")  # and the caller, the costs, the payloads
_WITHDRAW_BODY = struct.Struct("<QB")
_REPORT = struct.Struct("<iIIQQddddB")  # and the reason
_COUNT = struct.Struct("<I")
_FAILED_BODY = struct.Struct("<QBd")  # and the text
_NUMBER = struct.Struct("<Q")
_NOBODY = 0xFFFF  # length of the caller's name: there is none

_VALUE = struct.Struct("<BI")  # kind and length
_TEXT, _BYTES, _IDS, _ARRAY, _JSON, _ROWS = range(1, 7)
_SHAPE = struct.Struct("<BB")  # length of the dtype's name, dimensions
_NUMERIC = "biufc"
_DTYPE = re.compile(r"[<>|][biufc][0-9]{1,2}")
_INT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<f4")

# In this order: the first that an error is an instance of is what it travels as.
_ERRORS: tuple[type[BatcherError], ...] = (
    Overloaded,
    NotReady,
    Draining,
    DeadlineExceeded,
    Cancelled,
    OutOfMemory,
    RunnerFailed,
    PoisonRequest,
    WorkerLost,
)


# Writing


def hello() -> bytes:
    return _frame(_HELLO, [_HELLO_BODY.pack(_MARK, VERSION)])


def submit(message: Submit) -> bytes:
    """Raises FrameError for a payload that cannot travel."""
    call, deadline, priority, caller, costs, payloads = message
    count = len(payloads)
    name = b"" if caller is None else caller.encode("utf-8", "surrogatepass")
    if len(name) >= _NOBODY:
        raise FrameError(f"a caller's name of {len(name)} bytes")
    length = _NOBODY if caller is None else len(name)
    try:
        head = _SUBMIT_BODY.pack(call, deadline, priority, length, count)
        parts = [head, name, struct.pack(f"<{count}I", *costs)]
    except struct.error as error:
        raise FrameError(f"a call that cannot be written down: {error}") from None
    for payload in payloads:
        _write(payload, parts)
    return _frame(_SUBMIT, parts)


def withdraw(call: int, is_late: bool) -> bytes:
    return _frame(_WITHDRAW, [_WITHDRAW_BODY.pack(call, is_late)])


def settled(entries: Sequence[tuple[int, int, Answer]]) -> bytes:
    """Of one batch: all have the same report. Raises FrameError for a value that cannot travel."""
    count = len(entries)
    values = [answer.value for _, _, answer in entries]
    parts = [
        _written(entries[0][2].batch),
        _COUNT.pack(count),
        struct.pack(f"<{count}Q", *[call for call, _, _ in entries]),
        struct.pack(f"<{count}I", *[place for _, place, _ in entries]),
        struct.pack(f"<{count}d", *[answer.queue_wait for _, _, answer in entries]),
    ]
    if _are_rows(values):
        width = len(values[0])
        parts.append(_VALUE.pack(_ROWS, width))
        parts += values  # as they lie in memory: join copies each once
    else:
        for value in values:
            _write(value, parts)
    return _frame(_SETTLED, parts)


def failed(call: int, error: BatcherError) -> bytes:
    codes = (code for code, known in enumerate(_ERRORS) if isinstance(error, known))
    code = next(codes, _ERRORS.index(RunnerFailed))  # one of the model's own
    retry_after = error.retry_after if isinstance(error, Refused) else 0.0
    text = str(error).encode("utf-8", "surrogatepass")
    return _frame(_FAILED, [_FAILED_BODY.pack(call, code, retry_after), text])


def ask(number: int, subject: str) -> bytes:
    return _frame(_ASK, [_NUMBER.pack(number), subject.encode()])


def told(number: int, value: Json) -> bytes:
    """What is no JSON in it is told as text."""
    return _frame(_TOLD, [_NUMBER.pack(number), json.dumps(value, default=str).encode()])


def _frame(kind: int, parts: Sequence[Any]) -> bytes:
    body = b"".join(parts)
    if len(body) > MAX_BODY:
        raise FrameError(f"{len(body)} bytes do not fit in a frame, which holds {MAX_BODY}")
    return _HEAD.pack(len(body), kind) + body


def _written(report: BatchReport) -> bytes:
    reason = report.reason.encode()
    numbers = _REPORT.pack(
        report.replica,
        report.size,
        report.requests,
        report.tokens,
        report.useful_tokens,
        report.closed,
        report.oldest_wait,
        report.predicted,
        report.inference,
        len(reason),
    )
    return b"".join((numbers, reason))


def _are_rows(values: Sequence[Any]) -> bool:
    """Whether all are vectors of float32 of one length, each in one piece."""
    first = values[0]
    if not is_array(first) or first.ndim != 1:
        return False
    kind, shape = type(first), first.shape
    return all(
        type(value) is kind
        and value.dtype == _FLOAT32
        and value.shape == shape
        and value.flags.c_contiguous
        for value in values
    )


def _write(value: Any, parts: list[Any]) -> None:
    kind = type(value)
    data: Any
    if kind is str:
        code, data = _TEXT, value.encode("utf-8", "surrogatepass")
    elif kind is bytes:
        code, data = _BYTES, value
    elif is_array(value):
        if value.dtype == _INT32 and value.ndim == 1:
            code, data = _IDS, value.tobytes()
        else:
            code, data = _ARRAY, _array(value)
    else:
        try:
            code, data = _JSON, json.dumps(value).encode()
        except Exception as error:  # an object of the user's own may raise anything
            name = f"{kind.__module__}.{kind.__qualname__}"
            raise FrameError(f"a value of type {name} cannot travel: {error}") from None
    if len(data) > MAX_BODY:
        raise FrameError(f"a value of {len(data)} bytes; a frame holds {MAX_BODY}")
    parts.append(_VALUE.pack(code, len(data)))
    parts.append(data)


def _array(value: np.ndarray[Any, Any]) -> bytes:
    if value.dtype.kind not in _NUMERIC:
        raise FrameError(f"an array of {value.dtype} cannot travel: only numbers can")
    name = value.dtype.str.encode()
    shape = struct.pack(f"<{value.ndim}Q", *value.shape)
    return b"".join((_SHAPE.pack(len(name), value.ndim), name, shape, value.tobytes()))


# Reading


class Reader:
    """Puts frames together again from whatever pieces they come in."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0  # bytes, in the pieces
        self._wanted = 0  # bytes, until there can be another whole frame
        self._is_greeted = False

    def feed(self, data: bytes) -> list[Message]:
        """Raises FrameError; the reader is then of no use any more."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._wanted:
            return []
        whole = data if len(self._pieces) == 1 else b"".join(self._pieces)
        messages: list[Message] = []
        start, end = 0, len(whole)
        self._wanted = _HEAD.size
        while end - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(whole, start)
            if length > MAX_BODY:
                raise FrameError(f"a frame of {length} bytes; {MAX_BODY} are the most")
            body = start + _HEAD.size
            if end - body < length:
                self._wanted = _HEAD.size + length
                break
            messages.append(self._read(kind, whole[body : body + length]))
            start = body + length
        rest = whole[start:]
        self._pieces, self._held = ([rest] if rest else []), len(rest)
        return messages

    def _read(self, kind: int, body: bytes) -> Message:
        decode = _DECODERS.get(kind)
        if decode is None:
            raise FrameError(f"a frame of kind {kind}, which is none")
        try:
            message = decode(body)
        except FrameError:
            raise
        except (struct.error, ValueError, TypeError, IndexError, RecursionError) as error:
            raise FrameError(f"a frame of kind {kind} that is broken: {error}") from None
        if not self._is_greeted:
            if not isinstance(message, Hello):
                raise FrameError("the first frame is no greeting")
            if message.version != VERSION:
                raise FrameError(f"the other side speaks version {message.version}, not {VERSION}")
            self._is_greeted = True
        return message


def _read_hello(body: bytes) -> Hello:
    mark, version = _HELLO_BODY.unpack(body)
    if mark != _MARK:
        raise FrameError("a greeting of somebody else")
    return Hello(version)


def _read_submit(body: bytes) -> Submit:
    call, deadline, priority, length, count = _SUBMIT_BODY.unpack_from(body)
    at = _SUBMIT_BODY.size
    caller = None
    if length != _NOBODY:
        caller = str(_cut(body, at, length), "utf-8", "surrogatepass")
        at += length
    costs = struct.unpack(f"<{count}I", _cut(body, at, 4 * count))
    at += 4 * count
    payloads = []
    for _ in range(count):
        payload, at = _value(body, at)
        payloads.append(payload)
    _is_end(body, at)
    if not deadline > 0.0 or not payloads or min(costs) < 1:  # nor NaN
        raise FrameError("a call that nobody can have made")
    return Submit(call, deadline, priority, caller, costs, payloads)


def _read_withdraw(body: bytes) -> Withdraw:
    call, is_late = _WITHDRAW_BODY.unpack(body)
    return Withdraw(call, bool(is_late))


def _read_settled(body: bytes) -> Settled:
    *numbers, length = _REPORT.unpack_from(body)
    at = _REPORT.size
    reason = str(_cut(body, at, length), "utf-8")
    at += length
    replica, size, requests, tokens, useful, closed, oldest, predicted, inference = numbers
    report = BatchReport(
        replica, size, requests, tokens, useful, reason, closed, oldest, predicted, inference
    )
    (count,) = _COUNT.unpack_from(body, at)
    at += _COUNT.size
    calls = struct.unpack(f"<{count}Q", _cut(body, at, 8 * count))
    at += 8 * count
    places = struct.unpack(f"<{count}I", _cut(body, at, 4 * count))
    at += 4 * count
    waits = struct.unpack(f"<{count}d", _cut(body, at, 8 * count))
    at += 8 * count
    values, at = _values(body, at, count)
    _is_end(body, at)
    return Settled(
        [
            (call, place, Answer(value, wait, report))
            for call, place, wait, value in zip(calls, places, waits, values, strict=True)
        ]
    )


def _read_failed(body: bytes) -> Failed:
    call, code, retry_after = _FAILED_BODY.unpack_from(body)
    kind = _ERRORS[code]
    text = str(body[_FAILED_BODY.size :], "utf-8", "surrogatepass")
    error = kind(text, retry_after) if issubclass(kind, Refused) else kind(text)
    return Failed(call, error)


def _read_ask(body: bytes) -> Ask:
    (number,) = _NUMBER.unpack_from(body)
    return Ask(number, str(body[_NUMBER.size :], "utf-8"))


def _read_told(body: bytes) -> Told:
    (number,) = _NUMBER.unpack_from(body)
    return Told(number, json.loads(body[_NUMBER.size :]))


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    _HELLO: _read_hello,
    _SUBMIT: _read_submit,
    _WITHDRAW: _read_withdraw,
    _SETTLED: _read_settled,
    _FAILED: _read_failed,
    _ASK: _read_ask,
    _TOLD: _read_told,
}


def _cut(body: bytes, at: int, length: int) -> bytes:
    """A piece of its own: an array in it is aligned, and holds nothing else in memory."""
    piece = body[at : at + length]
    if len(piece) != length:
        raise FrameError(f"a frame that ends {length - len(piece)} bytes too early")
    return piece


def _is_end(body: bytes, at: int) -> None:
    if at != len(body):
        raise FrameError(f"{len(body) - at} bytes too many in a frame")


def _values(body: bytes, at: int, count: int) -> tuple[Sequence[Any], int]:
    if count and body[at : at + 1] == bytes([_ROWS]):
        _, width = _VALUE.unpack_from(body, at)
        at += _VALUE.size
        size = 4 * width * count
        rows = np.frombuffer(_cut(body, at, size), _FLOAT32).reshape(count, width)
        return list(rows), at + size
    values = []
    for _ in range(count):
        value, at = _value(body, at)
        values.append(value)
    return values, at


def _value(body: bytes, at: int) -> tuple[Any, int]:
    kind, length = _VALUE.unpack_from(body, at)
    at += _VALUE.size
    data = _cut(body, at, length)
    value: Any
    if kind == _TEXT:
        value = str(data, "utf-8", "surrogatepass")
    elif kind == _IDS:
        value = np.frombuffer(data, _INT32)
    elif kind == _BYTES:
        value = data
    elif kind == _ARRAY:
        value = _read_array(data)
    elif kind == _JSON:
        value = json.loads(data)
    else:
        raise FrameError(f"a value of kind {kind}, which is none")
    return value, at + length


def _read_array(data: bytes) -> np.ndarray[Any, Any]:
    length, dimensions = _SHAPE.unpack_from(data)
    at = _SHAPE.size
    name = str(_cut(data, at, length), "ascii")
    at += length
    if not _DTYPE.fullmatch(name):
        raise FrameError(f"an array of {name!r}")
    shape = struct.unpack(f"<{dimensions}Q", _cut(data, at, 8 * dimensions))
    return np.frombuffer(data[at + 8 * dimensions :], np.dtype(name)).reshape(shape)
