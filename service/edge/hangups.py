"""Whether a client that has sent its last byte is still there to read.

A closed connection and one whose client only said "that was all" look the same here until something
is sent. A closed one is then reset, but an event loop that expects no more bytes does not look.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


class Hangups:
    """Opened with the first connection, so that it belongs to the loop that runs."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._hang_up: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, hang_up: Callable[[], None]) -> None:
        """Calls `hang_up` once, if the peer resets the connection."""
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)
        self._hang_up[descriptor] = hang_up
        # No event at all is asked for: errors and hang-ups are told anyway, and once.
        self._epoll.register(descriptor, select.EPOLLONESHOT)

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed: its number will be another connection's."""
        if self._epoll is not None and self._hang_up.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _look(self) -> None:
        assert self._epoll is not None
        for descriptor, _ in self._epoll.poll(0):
            if descriptor in self._hang_up:
                self._hang_up[descriptor]()
