"""Measures a variant at a rate, by the referee and by Locust; restarts a server that collapsed."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from loadtests.drivers import arrivals, closedloop, workloads
from loadtests.drivers.locust import LocustReport, locust
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.outcomes import Summary, batch_sizes
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server, Variant, running
from loadtests.theory import ladder

WARM_SECONDS = 1.0  # Driven, not measured.
GRACE_SECONDS = 3.0  # Beyond the 2 s at which a variant counts as broken.
START_SECONDS = 8.0  # An estimate, for the announcement only.
LOCUST_START_SECONDS = 4.0  # Likewise.


@dataclass(frozen=True, slots=True)
class Point:
    """One variant at one rate, once."""

    variant: str
    rate: float
    repeat: int
    referee: Summary
    locust: LocustReport | None
    batches: dict[int, float]  # How many of each size.
    cpu_cores: float
    resident_mb: float

    @property
    def broken(self) -> bool:
        return ladder.broken(self.referee)


class Bench:
    """Gives each measurement a server that is ready and has nothing left over from the last."""

    def __init__(self, args: argparse.Namespace, record: Record, give_up: float) -> None:
        self._args, self._record, self._give_up = args, record, give_up
        self._sentences = workloads.load_sentences(args.sentences)
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self._variant: Variant | None = None
        self.points: list[Point] = []
        self.left_out: list[str] = []

    def has_time_for(self, what: str, seconds: float) -> bool:
        """Whether `seconds` are left; when not, `what` goes into the list of what was left out."""
        if time.monotonic() + seconds <= self._give_up:
            return True
        self.left_out.append(what)
        return False

    @contextlib.contextmanager
    def serving(self, variant: Variant) -> Iterator[None]:
        """Measurements in the block are of this variant; the server is stopped at its end."""
        self._variant = variant
        try:
            yield
        finally:
            self._stop()

    def measure(self, rate: float, repeat: int, seconds: float, with_locust: bool = True) -> Point:
        """One point; printed, written down and kept in `points`."""
        server, variant = self._ready(repeat)
        args = self._args
        pids = server.pids
        before = processes.cpu_seconds(pids)
        run = self._referee(rate, seconds + WARM_SECONDS, repeat)
        took = max(out.answered for out in run.outcomes) - run.begin
        cpu_cores = (processes.cpu_seconds(pids) - before) / took
        resident = processes.resident_bytes(pids)
        summary = run.summary(WARM_SECONDS)
        if ladder.broken(summary):
            self._stop()  # Its backlog would be measured next.
        report = None
        if with_locust:
            server, _ = self._ready(repeat)
            report = locust(server.target, rate, seconds, args.texts, args.sentences, seed=repeat)
            if report.p95_ms > ladder.BROKEN_P95_MS or report.failures:
                self._stop()
        name = f"{variant.name}-{rate:g}-{repeat}"
        self._record.raw(name, run)
        point = Point(
            variant.name,
            rate,
            repeat,
            summary,
            report,
            batch_sizes(run.outcomes),
            cpu_cores,
            resident / 2**20,
        )
        self.points.append(point)
        _show(point)
        return point

    def probe(self, rate: float, seconds: float) -> Summary:
        """A quick look that is not kept, with the same luck at every rate."""
        self._ready(0)
        summary = self._referee(rate, seconds, 0).summary(0.0)
        if ladder.broken(summary):
            self._stop()
        return summary

    def _referee(self, rate: float, seconds: float, seed: int) -> Run:
        server, _ = self._ready(seed)
        times = arrivals.poisson(rate, seconds, seed)
        requests = self._requests(server, seed)
        return referee(server.target, requests, times, seconds, grace=GRACE_SECONDS)

    def _ready(self, seed: int) -> tuple[Server, Variant]:
        assert self._variant is not None, "measured outside `serving`: this is a bug"
        if self._server is None:
            self._server = self._stack.enter_context(running(self._variant, self._args.cpus))
            # The first forwards of a size are slow; every variant gets the same warming.
            for callers in (1, 8):
                closedloop.drive(
                    self._server.target, self._requests(self._server, seed), callers, 0.7
                )
        return self._server, self._variant

    def _requests(self, server: Server, seed: int) -> list[bytes]:
        texts = workloads.texts(self._args.texts, self._sentences, seed)
        return [server.target.post("/embed", workloads.embed_body(text)) for text in texts]

    def _stop(self) -> None:
        self._server = None
        self._stack.close()


def _show(point: Point) -> None:
    report = point.locust
    seen = f"  Locust p50 {report.p50_ms:.0f}  p95 {report.p95_ms:.0f}" if report else ""
    verdict = "  BROKEN" if point.broken else ""
    print(
        f"{point.variant:10} {point.rate:6.4g}/s #{point.repeat}: {point.referee}"
        f"  {point.cpu_cores:.2f} cores{seen}{verdict}",
        flush=True,
    )
