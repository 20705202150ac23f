"""SupervisedProcess: a child of the supervisor, spawned and controlled; it dies with its parent."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from batcher.workers.lifetime import describe_exit, die_with_parent, exit_descriptor
from service.observability.logs import LogOptions, start_logging
from service.processes.control_channel import ControlChannel, ControlMessage

_log = logging.getLogger("service")


class SupervisedProcess:
    """Of the running event loop, which calls `on_message` with each message of its that nobody
    waits for, and then `on_exit` with what it died of, once."""

    def __init__(
        self,
        name: str,
        main: Callable[..., int],
        arguments: tuple[Any, ...],
        log: LogOptions,
        on_message: Callable[[SupervisedProcess, ControlMessage], None],
        on_exit: Callable[[SupervisedProcess, str], None],
    ) -> None:
        """Returns once it has been born. `main` is called in it with its end of the control
        channel and the arguments, and returns the exit code."""
        self.name = name
        self._on_message = on_message
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._awaited: dict[str, asyncio.Future[Any]] = {}
        self.was_killed = False  # by us
        self.gone = self._loop.create_future()  # what it died of
        ours, theirs = ControlChannel.pair()
        # Not daemonic: the engine has children of its own.
        self._process = multiprocessing.get_context("spawn").Process(
            target=_begin, args=(name, main, theirs, arguments, log), name=name
        )
        try:
            self._process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._control = ControlChannel(ours)
        self._death = exit_descriptor(self._process)
        self._listening = self._loop.create_task(self._listen(), name=f"listen to {name}")
        self._loop.add_reader(self._death, self._on_death)

    def send(self, kind: str, value: Any = None, attached: socket.socket | None = None) -> None:
        if not self.gone.done():
            self._control.send(kind, value, attached)

    async def request(self, kind: str, reply: str, timeout: float) -> Any:
        """The value of its reply, a message of that kind; None: it died before, or sent none within
        `timeout` seconds."""
        if self.gone.done():
            return None
        future = self._awaited[reply] = self._loop.create_future()
        self.send(kind)
        either = (future, self.gone)
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if not self.gone.done():
            _log.warning("%s did not reply %r within %g s", self.name, reply, timeout)
        return None

    def kill(self) -> None:
        if not self.gone.done():
            self.was_killed = True
            self._process.kill()

    async def _listen(self) -> None:
        """To the last message, which may come after its death."""
        while (message := await self._control.receive()) is not None:
            if message.socket is not None:
                message.socket.close()  # no process sends one
            future = self._awaited.pop(message.kind, None)
            if future is None:
                self._on_message(self, message)
            else:
                future.set_result(message.value)

    def _on_death(self) -> None:
        self._loop.remove_reader(self._death)
        os.close(self._death)
        self._process.join()
        why = describe_exit(self._process.exitcode)
        self._process.close()
        self._listening.add_done_callback(lambda _: self._reaped(why))

    def _reaped(self, why: str) -> None:
        self._control.close()
        self.gone.set_result(why)
        self._on_exit(self, why)

    def __repr__(self) -> str:
        return f"<SupervisedProcess {self.name}, pid {self.pid}>"


# The child's side


def _begin(
    name: str,
    main: Callable[..., int],
    end: socket.socket,
    arguments: tuple[Any, ...],
    log: LogOptions,
) -> None:
    die_with_parent()
    start_logging(log, name)
    _log.info("started as process %d", os.getpid())
    sys.exit(main(end, *arguments))


async def next_message(control: ControlChannel) -> ControlMessage:
    """For the process's own loop, which answers pings by coming here. Without a supervisor the
    process exits."""
    while (message := await control.receive()) is not None:
        if message.kind != "ping":
            return message
        control.send("pong")
    _log.error("the supervisor has exited; exiting")
    os._exit(1)
