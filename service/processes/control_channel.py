"""ControlChannel: messages between the supervisor and one of its processes, in order, some of them
with a socket. A private socketpair: EOF means that the peer process has exited.
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
_MAX_BYTES = 60_000  # of a message; that always fits in the socket's empty buffer
LONGEST_TEXT = 4_000  # characters of a text of any content: JSON takes at most 12 bytes for each


class ControlMessage(NamedTuple):
    kind: str
    value: Any  # JSON
    socket: socket.socket | None  # the receiver closes it


class ControlChannel:
    """One end, of the running event loop. Owns the socket that it is made with."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._received: deque[ControlMessage] = deque()
        self._is_over = False
        self._changed = asyncio.Event()
        self._loop.add_reader(end.fileno(), self._read)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, kind: str, value: Any = None, attached: socket.socket | None = None) -> None:
        """A peer that has exited is no failure here: its exit is noticed elsewhere. Raises
        ValueError for a value that is too long, and sends nothing then."""
        data = json.dumps([kind, value]).encode()
        if len(data) > _MAX_BYTES:
            raise ValueError(f"{kind!r} with {len(data)} bytes: at most {_MAX_BYTES} can be sent")
        fds = [] if attached is None else [attached.fileno()]
        try:
            socket.send_fds(self._end, [data], fds)
        except OSError as error:
            _log.warning("control message %r could not be sent: %s", kind, error.strerror or error)

    async def receive(self) -> ControlMessage | None:
        """None: the peer has exited, or closed its end."""
        while not self._received:
            if self._is_over:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._received.popleft()

    def close(self) -> None:
        """And every socket that was received with a message nobody took."""
        if not self._is_over:
            self._finish()
        self._end.close()
        while self._received:
            if (message := self._received.popleft()).socket is not None:
                message.socket.close()

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self._end.recvmsg(
                _MAX_BYTES, socket.CMSG_SPACE(array.array("i").itemsize)
            )
        except BlockingIOError:
            return
        except OSError:  # the peer was killed before it had read all
            data, ancillary = b"", []
        if not data:
            self._finish()
            return
        kind, value = json.loads(data)
        self._received.append(ControlMessage(kind, value, _socket_in(ancillary)))
        self._changed.set()

    def _finish(self) -> None:
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
