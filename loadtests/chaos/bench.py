"""The service under test: one process tree, restarted when a scenario wants other settings."""

import contextlib
import dataclasses
import http.client
import json
import math
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from loadtests.chaos.injections import Injections
from loadtests.drivers import closedloop
from loadtests.drivers.background_load import Load, Plan, encode
from loadtests.drivers.history import Call, History, Vector
from loadtests.drivers.http_client import Answer
from loadtests.drivers.reference_answers import EMBED, Ask, Computed, Observed, Reference
from loadtests.drivers.target import Target
from loadtests.drivers.timer import now
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server, Variant, running, service
from loadtests.servers.metrics_page import Counters, parse

# Capacity 200/s (a full batch of 16 takes 80 ms): one driver can offer ten times that.
SIMULATED: Mapping[str, str] = {
    "BATCHER_RUNNER": "simulated",
    "BATCHER_SIM_FIXED_MS": "40",
    "BATCHER_SIM_PER_ITEM_MS": "2.5",
    "BATCHER_MAX_BATCH_SIZE": "16",
}
CAPACITY = 200.0  # requests a second, of SIMULATED with one replica
ASK_SECONDS = 0.02  # Between two questions about the state of another process.
WARM_SECONDS = 1.0


class ServiceDied(RuntimeError):
    """The service under test has ended and no scenario asked for that."""


class Bench:
    """Gives scenarios the running service and ways to talk to it; keeps their history.

    What is sent by `post` and `load` is in `history` and is checked when the scenario is over.
    What goes through `socket` is the scenario's own to judge: set `raw` is then True, and the
    counters may show more requests than the history.
    """

    def __init__(
        self,
        real: bool = False,
        topology: Mapping[str, object] | None = None,
        ask: Ask = EMBED,
    ) -> None:
        self.real = real
        self.ask = ask  # What each text asks for.
        self.topology = topology or {}  # Settings of every service that is started.
        self.capacity = CAPACITY  # Requests a second; of a real model, measured at the start.
        self.speed = 0.0  # Seconds that a lone request takes when nothing is wrong.
        self.reference: Reference = Computed(ask)
        self.history = History()
        self.injections = Injections()
        self.raw = False
        self.restarted = False  # Since the scenario began: counters started again.
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self._variant: Variant | None = None

    # Life

    def start(self, variant: Variant) -> None:
        """The variant, ready; what ran before is stopped."""
        self.stop()
        self._variant = variant
        settings = {**service("", **self.topology).settings, **variant.settings}
        settings |= self._stack.enter_context(self.injections.shared())
        whole = dataclasses.replace(variant, settings=settings)
        self._server = self._stack.enter_context(running(whole))
        self.restarted = True
        self._warm_up()

    def begin(self) -> None:
        """A new scenario: an empty history, a service that is there."""
        if not self.alive():
            self.restart()
        self.history, self.raw, self.restarted = History(), False, False
        self.injections.begin()

    def restart(self) -> None:
        """The same settings in new processes, on a new port."""
        self.start(self.variant)

    def stop(self) -> None:
        self._server = None
        self._stack.close()

    @property
    def variant(self) -> Variant:
        """How it was started."""
        assert self._variant is not None, "asked before it was started: this is a bug"
        return self._variant

    @property
    def server(self) -> Server:
        if self._server is None:
            raise ServiceDied("no service is running")
        return self._server

    def alive(self) -> bool:
        return self._server is not None and self._server.process.poll() is None

    def check_alive(self) -> None:
        """Raises ServiceDied, after showing the end of its log."""
        code = self.server.process.poll()
        if code is not None:
            print(self.server.log_tail(), flush=True)
            raise ServiceDied(f"the service ended with status {code}")

    # Where it is

    @property
    def target(self) -> Target:
        return self.server.target

    @property
    def url(self) -> str:
        return self.target.url

    @property
    def host(self) -> str:
        return self.target.host

    @property
    def port(self) -> int:
        return self.target.port

    @property
    def pid(self) -> int:
        """The front (and the engine) of it."""
        return self.server.process.pid

    def worker_pids(self) -> list[int]:
        """By replica; 0 for one that is not up."""
        replicas = self.stats()["replicas"]
        return [int(r["facts"].get("pid", 0)) if r["state"] == "up" else 0 for r in replicas]

    # Asking

    def get(self, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
        """One GET on a connection of its own. Raises OSError when nobody answers."""
        return self.server.get(path, timeout)

    def stats(self) -> dict[str, Any]:
        """The service's own snapshot."""
        status, body = self._get_alive("/stats")
        if status != 200:
            raise RuntimeError(f"/stats answered {status}")
        stats: dict[str, Any] = json.loads(body)
        return stats

    def metrics(self) -> Counters:
        """One scrape."""
        return parse(self._get_alive("/metrics")[1].decode())

    def restarts(self) -> int:
        """Of all workers, so far."""
        return sum(sum(replica["restarts"].values()) for replica in self.stats()["replicas"])

    def _get_alive(self, path: str) -> tuple[int, bytes]:
        try:
            return self.get(path)
        except (OSError, http.client.HTTPException):
            self.check_alive()
            raise

    def wait_until(self, what: str, true: Callable[[], bool], timeout: float) -> float:
        """Seconds until `true()` is so. Raises TimeoutError.

        Another process tells its state only when asked, so it is asked, for a bounded time.
        """
        began = now()
        while not true():
            if now() - began > timeout:
                raise TimeoutError(f"{what}: not within {timeout:g} s")
            time.sleep(ASK_SECONDS)
        return now() - began

    def is_ready(self) -> bool:
        try:
            return self.get("/health/ready", 2.0)[0] == 200
        except (OSError, http.client.HTTPException):
            self.check_alive()
            return False

    # Sending

    def text(self, about: str = "request") -> str:
        """One that was never sent before: an answer to it is nobody else's."""
        return next(self.texts(about))

    def texts(self, about: str = "request") -> Iterator[str]:
        """Such texts for ever."""
        return self.reference.texts(about)

    def post(
        self,
        text: str | None = None,
        *,
        timeout: float = 10.0,
        headers: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> Call:
        """One request on a connection of its own, in the history; returns when it has its outcome,
        or a second after its deadline with none."""
        text = self.text() if text is None else text
        call = self.history.begin(text, timeout, now(), self.ask)
        call.sent = now()
        connection = http.client.HTTPConnection(
            self.host,
            self.port,
            timeout=timeout + 1,
            source_address=(source, 0) if source else None,
        )
        request = encode(self.target, text, timeout, headers, self.ask)
        head, _, body = request.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n")[1:])
        try:
            connection.request("POST", self.ask.path, body, lines)
            answer = connection.getresponse()
            content = answer.read()
            found = tuple((n.lower().encode(), v.encode()) for n, v in answer.getheaders())
            call.settle(Answer(answer.status, b"", content, headers=found))
        except TimeoutError:
            return call  # Nothing came of it: the history says so.
        except (OSError, http.client.HTTPException) as error:
            call.settle(Answer(error=type(error).__name__))
        finally:
            connection.close()
        return call

    def load(
        self,
        rate: float,
        *,
        texts: Iterable[str] | None = None,
        timeout: float = 10.0,
        headers: Mapping[str, str] | None = None,
        source: str | None = None,
        seed: int = 1,
    ) -> Load:
        """`with bench.load(100):` Poisson arrivals of 100 a second while the block runs."""
        chosen = iter(texts if texts is not None else self.texts())
        plan = Plan(rate, chosen, timeout, headers or {}, source, seed, ask=self.ask)
        return Load(self.target, self.history, plan)

    def socket(self, timeout: float = 15.0, source: str | None = None) -> socket.socket:
        """A raw connection; its traffic is in no history."""
        self.raw = True
        address = (source, 0) if source else None
        return socket.create_connection((self.host, self.port), timeout, address)

    def measure_speed(self, probes: int) -> float:
        """Median seconds of a lone request."""
        return statistics.median(self._timed() for _ in range(probes))

    def _timed(self) -> float:
        call = self.post()
        return call.answered - call.sent if call.kind == "ok" else math.inf

    def _warm_up(self) -> None:
        """Grows what grows once: threads, buffers, connections. None of it is in the history."""
        kept, self.history = self.history, History()
        if self.real and not isinstance(self.reference, Observed):
            self.reference = Observed(self._ask)
            requests = [encode(self.target, text, 10.0) for text in islice(self.texts(), 128)]
            drive = closedloop.drive(self.target, requests, 32, seconds=4.0)
            self.capacity = closedloop.throughput(drive, 1.0)
            print(f"capacity of the real model: {self.capacity:.0f}/s", flush=True)
        with self.load(self.capacity / 2, timeout=5.0):
            time.sleep(WARM_SECONDS)
        with socket.create_connection((self.host, self.port), 5.0) as client:
            client.sendall(encode(self.target, "half", 5.0, ask=self.ask))
            client.shutdown(socket.SHUT_WR)  # The first of these opens what all share.
            while client.recv(4096):
                continue
        self.speed = self.measure_speed(9)
        self.history = kept

    def _ask(self, text: str) -> Vector:
        vector = self.post(text).vector
        if vector is None:
            raise RuntimeError(f"the reference for {text[:40]!r} cannot be had")
        return vector

    # Harming

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """A signal to a process of this service, and to no other."""
        if pid not in processes.tree(self.pid):
            raise ProcessLookupError(f"{pid} is no process of this service")
        os.kill(pid, number)
        self.injections.acknowledge(number.name)
