"""Pipe: one end of the socket pair between a worker and its parent, and the messages on it.

A message is preceded by a mark, a number and its length. The number is the epoch of the batch that
it carries or answers, 0 for the start; it is never used twice, also not after a restart. Most
messages take one system call: in each, another thread can take the interpreter lock.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batcher.failures import explain
from batcher.request import Payload
from batcher.runner import RunnerInfo

HEAD = struct.Struct(">4sQQ")  # the mark, the number, how many bytes follow
MARK = b"btch"
_MOST = 1 << 40  # bytes of a message
_CHUNK = 1 << 16
_MOST_SELECTED = 1024  # FD_SETSIZE: select knows no descriptor from there on
_TIMEVAL = struct.Struct("@ll")  # seconds and microseconds, as the kernel takes them
_MOST_SECONDS = 1e6  # more is for ever
_GRACE, _GRACE_SHARE = 0.5, 0.1  # seconds, and of what is allowed: the smaller of the two


@dataclass(frozen=True, slots=True)
class Run:
    payloads: Sequence[Payload]


@dataclass(frozen=True, slots=True)
class Reply:
    """The results of one batch, one per payload, and the seconds that Runner.run took."""

    results: Sequence[Any]
    seconds: float
    info: RunnerInfo | None = None  # of the runner, if it has changed


@dataclass(frozen=True, slots=True)
class BatchFailed:
    reason: str
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    info: RunnerInfo


class NotAMessage(Exception):
    """The bytes received are no message, and none of those after them can be trusted."""


def pack(number: int, message: Run | Reply | BatchFailed | Ready) -> bytes:
    """Raises what pickling the user's payloads or results raises."""
    body = pickle.dumps(message, protocol=5)
    return HEAD.pack(MARK, number, len(body)) + body


class Pipe:
    """One thread sends and one receives. Both raise OSError once the other end is gone, and
    BlockingIOError where `allow` allows no more time."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._allowed = math.inf  # seconds
        self._rest = b""  # read already: the beginning of the next message
        self._arrivals = select.poll()
        self._arrivals.register(end, select.POLLIN)

    def allow(self, seconds: float) -> None:
        """From now on the other end may be silent for that long. inf: as long as it takes.

        The kernel keeps the time: no timer, no thread and no system call for each message.
        """
        if seconds == self._allowed:
            return
        self._allowed = seconds
        whole = int(seconds) if seconds < _MOST_SECONDS else 0  # 0: for ever
        part = max(1, int(seconds % 1.0 * 1e6)) if seconds < _MOST_SECONDS else 0
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(whole, part))

    def send(self, data: bytes) -> None:
        """What pack() returned."""
        self._socket.sendall(data)

    def answer(self, number: int, message: Reply | BatchFailed | Ready) -> None:
        try:
            data = pack(number, message)
        except Exception as error:  # a result of the user's own that does not pickle
            data = pack(number, BatchFailed(f"the result cannot be sent: {explain(error)}"))
        self.send(data)

    def receive(self) -> tuple[int, memoryview]:
        """The number of the next message and its pickle. Raises EOFError at the end, NotAMessage,
        MemoryError for one that does not fit."""
        data = self._rest
        while len(data) < HEAD.size:
            if data[: len(MARK)] != MARK[: len(data)]:
                raise NotAMessage("no mark")
            data += self._some()
        mark, number, size = HEAD.unpack_from(data)
        if mark != MARK or size > _MOST:
            raise NotAMessage("no mark" if mark != MARK else "an impossible length")
        end = HEAD.size + size
        self._rest = data[end:]
        if len(data) < end:
            whole = memoryview(bytearray(end))
            whole[: len(data)] = data
            self._fill(whole[len(data) :])
            return number, whole[HEAD.size :]
        return number, memoryview(data)[HEAD.size : end]

    def is_there(self, seconds: float) -> bool:
        """Is there anything to receive, end of file included, within so many seconds?"""
        if self._rest:
            return True
        seconds = max(0.0, seconds)
        if self._socket.fileno() < _MOST_SELECTED:  # exact, where poll knows milliseconds only
            return bool(select.select([self._socket], (), (), seconds)[0])
        return bool(self._arrivals.poll(math.ceil(seconds * 1e3)))

    def shut(self) -> None:
        """Wakes a blocked send or receive; what has arrived can still be received."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _some(self) -> bytes:
        try:
            chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            self._wait_once_more()
            chunk = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        if not chunk:
            raise EOFError
        return chunk

    def _wait_once_more(self) -> None:
        """The time is over. But if the whole machine stood still, the other end had none of it."""
        self._arrivals.poll(math.ceil(min(_GRACE, _GRACE_SHARE * self._allowed) * 1e3))

    def _fill(self, view: memoryview) -> None:
        while view:
            try:
                count = self._socket.recv_into(view)
            except BlockingIOError:
                self._wait_once_more()
                count = self._socket.recv_into(view, 0, socket.MSG_DONTWAIT)
            if not count:
                raise EOFError
            view = view[count:]
