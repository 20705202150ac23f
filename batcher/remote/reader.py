"""Reader: frames out of whatever pieces they come in. What is no frame of ours is a FrameError:
nothing that comes after it can be trusted. No socket, no loop, no clock.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

from batcher.errors import Refused
from batcher.remote import layout, values
from batcher.remote.messages import (
    Ask,
    Failed,
    FrameError,
    Hello,
    Message,
    Settled,
    Submit,
    Told,
    Withdraw,
)
from batcher.request import Answer, BatchReport


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
        self._wanted = layout.HEAD.size
        while end - start >= layout.HEAD.size:
            length, kind = layout.HEAD.unpack_from(whole, start)
            if length > layout.MAX_BODY:
                raise FrameError(f"a frame of {length} bytes; {layout.MAX_BODY} are the most")
            body = start + layout.HEAD.size
            if end - body < length:
                self._wanted = layout.HEAD.size + length
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
            if message.version != layout.VERSION:
                raise FrameError(
                    f"the other side speaks version {message.version}, not {layout.VERSION}"
                )
            self._is_greeted = True
        return message


def _read_hello(body: bytes) -> Hello:
    mark, version = layout.HELLO_BODY.unpack(body)
    if mark != layout.MARK:
        raise FrameError("a greeting of somebody else")
    return Hello(version)


def _read_submit(body: bytes) -> Submit:
    call, deadline, priority, length, count = layout.SUBMIT_BODY.unpack_from(body)
    at = layout.SUBMIT_BODY.size
    caller = None
    if length != layout.NOBODY:
        caller = str(values.cut(body, at, length), "utf-8", "surrogatepass")
        at += length
    costs = struct.unpack(f"<{count}I", values.cut(body, at, 4 * count))
    at += 4 * count
    payloads = []
    for _ in range(count):
        payload, at = values.read(body, at)
        payloads.append(payload)
    _is_end(body, at)
    if not deadline > 0.0 or not payloads or min(costs) < 1:  # nor NaN
        raise FrameError("a call that nobody can have made")
    return Submit(call, deadline, priority, caller, costs, payloads)


def _read_withdraw(body: bytes) -> Withdraw:
    call, is_late = layout.WITHDRAW_BODY.unpack(body)
    return Withdraw(call, bool(is_late))


def _read_settled(body: bytes) -> Settled:
    *numbers, length = layout.REPORT.unpack_from(body)
    at = layout.REPORT.size
    reason = str(values.cut(body, at, length), "utf-8")
    at += length
    replica, size, requests, tokens, useful, closed, oldest, predicted, inference = numbers
    report = BatchReport(
        replica, size, requests, tokens, useful, reason, closed, oldest, predicted, inference
    )
    (count,) = layout.COUNT.unpack_from(body, at)
    at += layout.COUNT.size
    calls = struct.unpack(f"<{count}Q", values.cut(body, at, 8 * count))
    at += 8 * count
    places = struct.unpack(f"<{count}I", values.cut(body, at, 4 * count))
    at += 4 * count
    waits = struct.unpack(f"<{count}d", values.cut(body, at, 8 * count))
    at += 8 * count
    results, at = values.read_all(body, at, count)
    _is_end(body, at)
    return Settled(
        [
            (call, place, Answer(result, wait, report))
            for call, place, wait, result in zip(calls, places, waits, results, strict=True)
        ]
    )


def _read_failed(body: bytes) -> Failed:
    call, code, retry_after = layout.FAILED_BODY.unpack_from(body)
    kind = layout.ERRORS[code]
    text = str(body[layout.FAILED_BODY.size :], "utf-8", "surrogatepass")
    error = kind(text, retry_after) if issubclass(kind, Refused) else kind(text)
    return Failed(call, error)


def _read_ask(body: bytes) -> Ask:
    (number,) = layout.NUMBER.unpack_from(body)
    return Ask(number, str(body[layout.NUMBER.size :], "utf-8"))


def _read_told(body: bytes) -> Told:
    (number,) = layout.NUMBER.unpack_from(body)
    return Told(number, json.loads(body[layout.NUMBER.size :]))


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    layout.HELLO: _read_hello,
    layout.SUBMIT: _read_submit,
    layout.WITHDRAW: _read_withdraw,
    layout.SETTLED: _read_settled,
    layout.FAILED: _read_failed,
    layout.ASK: _read_ask,
    layout.TOLD: _read_told,
}


def _is_end(body: bytes, at: int) -> None:
    if at != len(body):
        raise FrameError(f"{len(body) - at} bytes too many in a frame")
