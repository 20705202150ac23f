"""The line between the supervisor and one of its processes: words, in order, some with a socket.

A pair of sockets that only these two have. That it ends says that the other side has.
"""

from __future__ import annotations

import array
import asyncio
import json
import logging
import os
import socket
from collections import deque
from typing import Any, NamedTuple

_log = logging.getLogger("service")
_LONGEST = 60_000  # bytes of a word and its value: such a one always fits in an empty line
LONGEST_TEXT = 4_000  # characters of a text that may say anything: JSON takes at most 12 bytes each


class Order(NamedTuple):
    word: str
    value: Any  # JSON
    end: socket.socket | None  # for whoever takes it to close


class Orders:
    """Of the running event loop. `end` is its own from now on."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._come: deque[Order] = deque()
        self._is_over = False
        self._changed = asyncio.Event()
        self._loop.add_reader(end.fileno(), self._read)

    @staticmethod
    def line() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def say(self, word: str, value: Any = None, end: socket.socket | None = None) -> None:
        """Nobody there to hear it is no failure: that is noticed where it matters. Raises
        ValueError for a value that is too long, and then nothing is said."""
        data = json.dumps([word, value]).encode()
        if len(data) > _LONGEST:
            raise ValueError(f"{word!r} with {len(data)} bytes: at most {_LONGEST} can be said")
        fds = [] if end is None else [end.fileno()]
        try:
            socket.send_fds(self._end, [data], fds)
        except OSError as error:
            _log.warning("%r was said to nobody: %s", word, error.strerror or error)

    async def next(self) -> Order | None:
        """None: the other side has ended."""
        while not self._come:
            if self._is_over:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._come.popleft()

    def close(self) -> None:
        if not self._is_over:
            self._over()
        self._end.close()
        while self._come:
            if (order := self._come.popleft()).end is not None:
                order.end.close()

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self._end.recvmsg(
                _LONGEST, socket.CMSG_SPACE(array.array("i").itemsize)
            )
        except BlockingIOError:
            return
        except OSError:  # it was killed with something of ours unread
            data, ancillary = b"", []
        if not data:
            self._over()
            return
        word, value = json.loads(data)
        self._come.append(Order(word, value, _socket_in(ancillary)))
        self._changed.set()

    def _over(self) -> None:
        self._is_over = True
        self._loop.remove_reader(self._end.fileno())
        self._changed.set()


def _socket_in(ancillary: list[tuple[int, int, bytes]]) -> socket.socket | None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            [fd] = array.array("i", data)
            os.set_inheritable(fd, False)
            return socket.socket(fileno=fd)
    return None
