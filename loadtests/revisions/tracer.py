"""Inside a traced process: records each call and return of our Python code, on all threads.

Standard library only: `trace.py` copies this file as `sitecustomize.py` to a folder on the path of
the service, of whatever commit, and of its children. A thread of each process takes commands on a
socket: `on`, or `off`, which answers with the records.
"""

import json
import os
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

ROOT = "LOADTESTS_TRACE_ROOT"  # The checkout: what lies in it is ours.
SOCKETS = "LOADTESTS_TRACE_SOCKETS"  # A folder for one socket a process, by its pid.
PACKAGES = ("batcher", "service")


class Tracer:
    """`events`: `("call" or "return", file, its caller's file or None)`, files by the root.

    The caller is the nearest frame of ours: what lies between, asyncio or httptools, is no file of
    ours. A coroutine that goes on is called once more.
    """

    def __init__(self, root: str) -> None:
        self._prefixes = tuple(os.path.join(root, package) + os.sep for package in PACKAGES)
        self._length = len(root) + 1
        self._names: dict[str, str | None] = {}  # By Python's name of the file; None: not ours.
        self._on = False
        self.events: list[tuple[str, str, str | None]] = []

    def start(self) -> None:
        self.events = []
        self._on = True

    def stop(self) -> None:
        self._on = False

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        """For sys.setprofile."""
        if not self._on or event not in ("call", "return"):
            return
        file = self._ours(frame)
        if file is None:
            return
        back, caller = frame.f_back, None
        while back is not None and (caller := self._ours(back)) is None:
            back = back.f_back
        self.events.append((event, file, caller))

    def _ours(self, frame: FrameType) -> str | None:
        path = frame.f_code.co_filename
        if path not in self._names:
            ours = path.startswith(self._prefixes)
            self._names[path] = path[self._length :] if ours else None
        return self._names[path]


def serve(tracer: Tracer, path: Path) -> None:
    """Takes commands until the process ends. The thread that runs this is not traced."""
    sys.setprofile(None)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as stream:
                if stream.readline().strip() == "on":
                    tracer.start()
                    stream.write("{}")
                else:
                    tracer.stop()
                    stream.write(json.dumps({"events": tracer.events}))


def install() -> None:
    tracer = Tracer(os.environ[ROOT])
    path = Path(os.environ[SOCKETS], str(os.getpid()))
    threading.Thread(target=serve, args=(tracer, path), name="tracer", daemon=True).start()
    threading.setprofile(tracer.profile)  # Of all threads that start from now on.
    sys.setprofile(tracer.profile)


if __name__ == "sitecustomize" and ROOT in os.environ:
    install()
