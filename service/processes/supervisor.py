"""The supervisor: owns the listening socket, the signals, and its child processes: the engine and
the frontends. Replaces a process that dies or misses its heartbeat, connects frontends with the
engine, and shuts all down in order. Serves nothing.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import socket
from collections.abc import Callable

from batcher.clock import MonotonicClock
from batcher.supervision.restarts import Restarts
from service.edge.certificate import Certificate
from service.edge.sockets import port_of
from service.observability.logs import LogOptions
from service.placement.layout import Layout
from service.processes import engine as engine_process
from service.processes import frontend as frontend_process
from service.processes import liveness
from service.processes.child import SupervisedProcess
from service.processes.control_channel import ControlMessage
from service.processes.exit_codes import CRASHED, NO_MODEL, OK, UNANSWERED
from service.processes.liveness import Heartbeats
from service.processes.signals import Signals
from service.processes.terminal import print_banner, print_error
from service.processes.topology import Topology
from service.settings import Settings

_log = logging.getLogger("service")
_EXIT_TIMEOUT = 15.0  # seconds for a process to exit that has nothing left to do
_COMMAND_TIMEOUT = 5.0  # seconds for a frontend to obey: one turn of its event loop, if not stuck
_RECONNECT_DELAY = 0.1  # seconds: a connection that breaks again at once must cost little
_ENGINE = "engine"


def run(
    settings: Settings,
    listener: socket.socket,
    layout: Layout,
    topology: Topology,
    certificate: Certificate | None,
) -> int:
    """Returns the exit code."""

    async def supervise() -> int:
        frontends = topology.frontends
        return await Supervisor(settings, listener, layout, frontends, certificate).run()

    return asyncio.run(supervise())


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        layout: Layout,
        frontends: int,
        certificate: Certificate | None,  # for TLS; the frontends get it from here
    ) -> None:
        self._settings = settings
        self._certificate = certificate
        self._listener = listener
        self._layout = layout
        self._count = frontends
        self._numbers = {f"frontend-{number}": number for number in range(frontends)}
        self._clock = MonotonicClock()
        self._loop = asyncio.get_running_loop()
        self._restarts = {name: Restarts() for name in (_ENGINE, *self._numbers)}
        self._children: dict[str, SupervisedProcess] = {}  # those that live
        self._waiting: dict[str, asyncio.TimerHandle] = {}  # to be started again
        self._up: set[str] = set()  # those that live and have come up
        self._link_ids = itertools.count(1)  # of a frontend's connection to the engine; unique
        self._link_id: dict[str, int] = {}  # the latest of each frontend
        self._heartbeats = Heartbeats()
        self._banner = ""  # empty: no engine has ever come up
        self._is_announced = False
        self._is_stopping = False  # a signal has come
        self._is_ending = False
        self._failed: asyncio.Future[int] = self._loop.create_future()  # the exit code
        self._problem = ""  # the last thing that is said, if there is one

    async def run(self) -> int:
        signals = Signals(self._settings.drain_delay_ms / 1e3, self._on_signal, self._kill_all)
        if self._certificate is not None:
            signals.on_hangup(functools.partial(self._reload, self._certificate))
        code = CRASHED
        try:
            for name in self._restarts:
                self._start(name)
            self._send_heartbeats()
            code = await self._live(signals)
        except Exception:
            _log.critical("internal error; shutting down", exc_info=True)
        finally:
            self._is_ending = True
            self._kill_all()
            await self._all_gone(_EXIT_TIMEOUT)
            self._listener.close()
        if self._problem:
            print_error(self._problem)
        elif code == OK:
            _log.info("shut down")
        return code

    async def _live(self, signals: Signals) -> int:
        stopping = self._loop.create_task(signals.came.wait(), name="stop")
        await asyncio.wait((stopping, self._failed), return_when=asyncio.FIRST_COMPLETED)
        if signals.came.is_set() and self._banner and signals.delay:
            # Nobody sends new requests here once all know that we end.
            await asyncio.wait((self._failed,), timeout=signals.delay)
        stopping.cancel()
        if self._failed.done():
            return self._failed.result()
        return OK if await self._end() else UNANSWERED

    async def _end(self) -> bool:
        """What has been accepted is answered, by all frontends; then the engine goes, and then
        they, once their clients have read what there is. Returns whether it was in time."""
        self._is_ending = True
        all_answered = True
        for handle in self._waiting.values():
            handle.cancel()
        self._listener.close()  # the last frontend to close it answers those in its queue
        frontends = [each for name, each in self._children.items() if name != _ENGINE]
        engine = self._children.get(_ENGINE)
        said = await asyncio.gather(
            *(frontend.request("refuse", "refused", _COMMAND_TIMEOUT) for frontend in frontends)
        )
        if engine is not None:
            if _ENGINE in self._up:
                grace = asyncio.sleep(max((each for each in said if each), default=0.0))
                timeout = self._settings.drain_timeout_ms / 1e3 + _EXIT_TIMEOUT
                drained, _ = await asyncio.gather(
                    engine.request("drain", "drained", timeout), grace
                )
                all_answered = bool(drained)
                if not drained:
                    _log.error("not all accepted requests were answered within the drain timeout")
                if drained is None:  # callers that still wait get their error at once
                    engine.kill()
            await engine.request("close", "closed", _EXIT_TIMEOUT)
        for frontend in frontends:
            frontend.send("end")
        all_answered &= await self._gone(frontends, _EXIT_TIMEOUT)
        if engine is not None:
            engine.send("end")
            await self._gone([engine], _EXIT_TIMEOUT)
        return all_answered

    async def _all_gone(self, timeout: float) -> None:
        await self._gone(list(self._children.values()), timeout)

    async def _gone(self, children: list[SupervisedProcess], timeout: float) -> bool:
        """Whether they went by themselves."""
        if not children:
            return True
        _, late = await asyncio.wait([child.gone for child in children], timeout=timeout)
        if late:
            _log.error("killing %d processes that have not exited", len(late))
            for child in children:
                child.kill()
        return not late

    # Children

    def _start(self, name: str) -> None:
        """And joins it with whoever is there of the other kind."""
        self._waiting.pop(name, None)
        main: Callable[..., int] = frontend_process.main
        files = None if self._certificate is None else self._certificate.files
        shared: object = self._listener, files
        if name == _ENGINE:
            main, shared = engine_process.main, (self._layout, port_of(self._listener))
        arguments = (self._settings, shared, self._count)
        log = LogOptions(self._settings.log_level, self._settings.log_format)
        self._children[name] = SupervisedProcess(
            name, main, arguments, log, self._on_message, self._on_exit
        )
        if self._is_stopping and name != _ENGINE:
            self._children[name].send("stopping")
        for frontend in self._numbers if name == _ENGINE else [name]:
            self._connect(frontend)

    def _connect(self, name: str) -> None:
        engine, frontend = self._children.get(_ENGINE), self._children.get(name)
        if engine is None or frontend is None:
            return
        one, other = socket.socketpair()
        with one, other:
            link_id = self._link_id[name] = next(self._link_ids)
            engine.send("frontend", self._numbers[name], one)
            frontend.send("engine", link_id, other)

    def _reconnect(self, name: str, lost: int) -> None:
        """If both live: else they are joined when who has died is there again."""
        both_live = name in self._children and _ENGINE in self._children
        if both_live and not self._is_ending and self._link_id.get(name) == lost:
            _log.error("%s lost its engine connection; reconnecting", name)
            try:
                self._connect(name)
            except OSError as error:  # no descriptor to be had
                _log.error("%s cannot be reconnected yet: %s", name, error.strerror or error)
                self._loop.call_later(liveness.INTERVAL, self._reconnect, name, lost)

    def _send_heartbeats(self) -> None:
        """Of those that are up: a start has no bound, and tells of its end."""
        if self._is_ending:
            return
        asked, silent = self._heartbeats.ping(sorted(self._up), self._clock.now())
        for name in silent:
            _log.error("%s has not answered for %g s; killing it", name, liveness.BOUND)
            self._children[name].kill()
            self._up.discard(name)  # logged once
            self._heartbeats.pong(name)
        for name in asked:
            self._children[name].send("ping")
        self._loop.call_later(liveness.INTERVAL, self._send_heartbeats)

    def _on_message(self, child: SupervisedProcess, message: ControlMessage) -> None:
        if message.kind == "up":
            self._up.add(child.name)
            self._restarts[child.name].came_up(self._clock.now())
            self._banner = self._banner or message.value or ""
            if self._is_announced:
                _log.info("%s is up again", child.name)
            elif len(self._up) == len(self._restarts):
                self._is_announced = True
                print_banner(self._banner)
                _log.info("the engine and %d frontends are up", self._count)
        elif message.kind == "pong":
            self._heartbeats.pong(child.name)
        elif message.kind == "lost":
            self._loop.call_later(_RECONNECT_DELAY, self._reconnect, child.name, message.value)
        elif message.kind == "failed" and child.name not in self._up:
            problem = f"the model cannot be loaded: {message.value}"
            if self._banner:  # it could be, before
                _log.error("%s: %s", child.name, problem)
            else:
                self._fail(NO_MODEL, problem)

    def _on_exit(self, child: SupervisedProcess, why: str) -> None:
        name = child.name
        del self._children[name]
        self._up.discard(name)
        self._heartbeats.pong(name)
        if self._is_ending:
            if why != "exit code 0" and not child.was_killed:
                _log.warning("%s exited with %s", name, why)
            return
        delay = self._restarts[name].died(self._clock.now())
        lost = "the accepted requests" if name == _ENGINE else "its connections"
        if delay is None:
            _log.critical("%s died (%s) again before it was up; giving up", name, why)
            self._fail(CRASHED, f"{name} cannot be started: it died ({why}) each time")
            return
        _log.error("%s died (%s) with %s; restarting it in %.1f s", name, why, lost, delay)
        self._waiting[name] = self._loop.call_later(delay, self._start_again, name)

    def _start_again(self, name: str) -> None:
        try:
            self._start(name)
        except OSError as error:  # no process to be had, no descriptor
            _log.critical("%s cannot be started", name, exc_info=error)
            self._fail(CRASHED, f"{name} cannot be started: {error.strerror or error}")

    def _fail(self, code: int, problem: str) -> None:
        if not (self._failed.done() or self._is_ending):
            self._problem = problem
            self._failed.set_result(code)

    # The end

    def _on_signal(self) -> None:
        self._is_stopping = True
        self._send_frontends("stopping")

    def _reload(self, certificate: Certificate) -> None:
        if certificate.reload(self._settings):
            self._send_frontends("certificate", certificate.files.as_json())

    def _send_frontends(self, kind: str, value: object = None) -> None:
        for name, child in self._children.items():
            if name != _ENGINE:
                child.send(kind, value)

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.kill()

    def __repr__(self) -> str:
        return f"<Supervisor of {', '.join(self._children)}>"
