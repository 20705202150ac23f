"""A listening unix socket, and its file: one that a killed service has left behind is replaced."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass

_log = logging.getLogger("service")


def listen(path: str, backlog: int) -> socket.socket:
    """Its file has the rights that the umask leaves. Raises OSError."""
    with _alone_in(os.path.dirname(path) or "."):
        if _is_left_behind(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(path)
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        return listener


@dataclass(frozen=True, slots=True)
class SocketFile:
    """Of a listening socket. Another service may have replaced it by the time it is removed."""

    path: str
    _identity: tuple[int, int, int]

    @classmethod
    def of(cls, listener: socket.socket) -> SocketFile | None:
        """None: it is no unix socket."""
        if listener.family != socket.AF_UNIX:
            return None
        path = os.path.abspath(listener.getsockname())
        return cls(path, _identity(path))

    def remove(self) -> None:
        """At the end, which it must not change: where it cannot, the next service will."""
        try:
            with _alone_in(os.path.dirname(self.path)):
                if _identity(self.path) == self._identity:
                    os.unlink(self.path)
        except FileNotFoundError:
            _log.info("the unix socket %s has been removed already", self.path)
        except OSError as error:
            _log.warning("the unix socket %s cannot be removed: %s", self.path, error.strerror)


def _identity(path: str) -> tuple[int, int, int]:
    """Not the inode alone: its number is used again."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_ctime_ns


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Two that start at once must not each take the other's new file for one left behind."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_left_behind(path: str) -> bool:
    """Raises OSError for what is not ours to remove: a file, or a socket that is listened on."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "the file exists and is not a socket")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # it would wait for room in a backlog
        error = probe.connect_ex(path)
    if error == errno.ECONNREFUSED:
        return True
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
