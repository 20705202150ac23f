"""A wake-up at an absolute time, exact to tens of microseconds. Linux only (timerfd).

Event-loop timers round to whole milliseconds (libuv's clock, epoll's timeout), which would smear
Poisson arrivals at a thousand a second. Python wraps timerfd only from 3.13, hence ctypes.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

# Seconds on CLOCK_MONOTONIC, the clock the timerfd is armed on.
now: Callable[[], float] = time.monotonic

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_Timespecs = ctypes.c_long * 4  # struct itimerspec: interval (s, ns), then expiry (s, ns)


class Timer:
    """Calls `fire` on the loop once for each `set`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._loop, self._fire = loop, fire
        loop.add_reader(self._fd, self._expired)

    def set(self, at: float) -> None:
        """Fire at `at`; at once if that has passed. Replaces an earlier setting."""
        nanoseconds = max(1, int(at * 1e9))  # Zero would disarm it.
        spec = _Timespecs(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        os.read(self._fd, 8)  # The expiry count; unread, the descriptor stays readable.
        self._fire()
