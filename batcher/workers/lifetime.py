"""How a parent learns of the end of a child process, and a child of its parent's."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from multiprocessing.process import BaseProcess

_PR_SET_PDEATHSIG = 1


def exit_descriptor(process: BaseProcess) -> int:
    """A file descriptor that becomes readable when the process has ended. The caller closes it.

    Not the sentinel, where the kernel has better: that is a pipe, which a grandchild keeps open.
    """
    assert process.pid is not None
    try:
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # no Linux, or an old one
        return os.dup(process.sentinel)


def describe_exit(code: int | None) -> str:
    if code is None:  # another SIGCHLD handler has reaped it
        return "unknown cause"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def die_with_parent() -> None:
    """Ignores what a terminal or systemd sends to the whole process group: it must not end this
    process before its parent has drained it.

    If the parent dies, this process does too. On Linux the kernel sees to it, even while a thread
    holds the interpreter lock; it counts the thread that started this process as the parent.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
