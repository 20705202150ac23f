"""Measures one server: the closed loop with wrk, the open loop with the referee.

Both share the machine's cores with the server, unpinned: a server that needs fewer of them leaves
more to the generator, for every server alike.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from loadtests.drivers import arrivals, closedloop, wrk
from loadtests.drivers.openloop import referee
from loadtests.peers import schedule
from loadtests.peers.catalogue import Peer
from loadtests.peers.schedule import Point, Visit
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server

T = TypeVar("T")

WARM_SECONDS = 1.0
WARM_CALLERS = 64
SKIP_SECONDS = 0.5  # Of an open loop: driven, not counted.
GRACE_SECONDS = 2.0
REST_SECONDS = 20.0  # At most, until a server is through with what nobody waits for any more.


class Bench:
    """The measurements of one visit. Texts are different in every repeat, the same for all."""

    def __init__(self, peer: Peer, server: Server, texts: Sequence[str], seconds: float) -> None:
        self._peer, self._server, self._seconds = peer, server, seconds
        self._bodies = [peer.body(text) for text in texts]

    def warm(self) -> None:
        """The first forwards of a size are slow, and learners learn: the same for every server."""
        self._closed(WARM_CALLERS, WARM_SECONDS)
        self._rest()

    def closed(self, visit: Visit, callers: int) -> Point:
        seconds = schedule.closed_seconds(callers, self._seconds)
        report, cores, resident = self._using_cpu(lambda: self._closed(callers, seconds))
        self._rest()
        return Point(
            visit.peer,
            visit.load,
            "closed",
            callers,
            0.0,
            visit.repeat,
            report.requests_per_s,
            report.p50_ms,
            report.p95_ms,
            report.p99_ms,
            report.errors,
            report.requests,
            cores,
            resident,
        )

    def open(self, visit: Visit, repeat: int, rate: float, share: float) -> Point:
        seconds = self._seconds + SKIP_SECONDS
        times = arrivals.poisson(rate, seconds, repeat)
        requests = [self._server.target.post(self._peer.path, body) for body in self._bodies]
        run, cores, resident = self._using_cpu(
            lambda: referee(self._server.target, requests, times, seconds, grace=GRACE_SECONDS)
        )
        self._rest()
        summary = run.summary(SKIP_SECONDS)
        return Point(
            visit.peer,
            visit.load,
            "open",
            rate,
            share,
            repeat,
            summary.answered_per_s,
            summary.p50_ms,
            summary.p95_ms,
            summary.p99_ms,
            round(summary.requests * (1 - summary.answered_share)),
            summary.requests,
            cores,
            resident,
            summary.late_driver,
        )

    def _closed(self, callers: int, seconds: float) -> wrk.WrkReport:
        return wrk.post_bodies(self._server.target, self._peer.path, self._bodies, callers, seconds)

    def _rest(self) -> None:
        """Until the server is through with what was sent: many do not notice that a client has
        gone, and the next measurement would begin with the backlog of this one."""
        request = self._server.target.post(self._peer.path, self._bodies[0])
        closedloop.drive(self._server.target, [request], 1, REST_SECONDS, most=1)

    def _using_cpu(self, act: Callable[[], T]) -> tuple[T, float, float]:
        pids = self._server.pids
        before, began = processes.cpu_seconds(pids), time.monotonic()
        done = act()
        cores = (processes.cpu_seconds(pids) - before) / (time.monotonic() - began)
        return done, cores, processes.resident_bytes(pids) / 2**20


def missing_callers(visit: Visit, points: Sequence[Point]) -> list[int]:
    """The closed loops of this visit that `points` does not have yet."""
    have = {point.key for point in points}
    return [
        callers
        for callers in visit.callers
        if schedule.key(visit.peer, visit.load, "closed", callers, visit.repeat) not in have
    ]


def missing_shares(visit: Visit, points: Sequence[Point], repeat: int) -> list[float]:
    """The open loops of this repeat that `points` does not have yet, without the hopeless."""
    have = {point.key for point in points}
    return [
        share
        for share in visit.shares
        if schedule.key(visit.peer, visit.load, "open", share, repeat) not in have
        and not schedule.hopeless(
            points, visit.peer, visit.load, schedule.rate_of(points, visit.load, share)
        )
    ]
