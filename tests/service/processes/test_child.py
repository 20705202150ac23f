"""A process of the supervisor's, a real one."""

from __future__ import annotations

import signal
import socket

from service.observability.logs import LogOptions
from service.processes.child import SupervisedProcess
from tests.fakes import run_async


def keeps_silent(end: socket.socket) -> int:
    signal.pause()
    return 0


def test_one_that_does_not_answer_is_not_waited_for_without_end() -> None:
    async def test() -> None:
        child = SupervisedProcess(
            "silent", keeps_silent, (), LogOptions(), lambda *_: None, lambda *_: None
        )
        assert await child.request("drain", "drained", 0.01) is None
        assert not child.gone.done()
        child.kill()
        assert await child.request("drain", "drained", 600.0) is None
        assert await child.gone == "signal 9"

    run_async(test())
