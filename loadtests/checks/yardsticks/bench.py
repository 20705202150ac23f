"""The service on the simulated accelerator, and what was measured on it: each thing once."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.drivers import arrivals, closedloop, workloads
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.outcomes import OK
from loadtests.drivers.target import Target
from loadtests.reports.finding import Finding
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, Variant, running, service
from loadtests.theory.queueing import Accelerator, Vector

ACCELERATOR = Accelerator(fixed=0.050, each=0.005, limit=32)
CALLERS = 128  # Four full batches: the queue never runs dry.


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long each measurement lasts, in seconds; the figures are as good as these are long."""

    alone: float = 6.0
    saturated: float = 30.0
    poisson: float = 60.0  # Each rho.
    closed: float = 15.0  # Each number of callers.
    replicas: float = 30.0  # Each rho.
    pattern: float = 30.0  # Each policy under each pattern of arrivals.
    virtual: float = 1500.0  # Each rho, in virtual time.
    rhos: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    replica_rhos: tuple[float, ...] = (0.1, 0.5, 0.9)
    callers: tuple[int, ...] = (2, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Poisson:
    """One run of the referee, and the arrivals it played: an ideal is computed of the same ones."""

    rho: float
    rate: float
    times: list[float]
    run: Run

    @property
    def latencies(self) -> Vector:
        return np.array([outcome.latency for outcome in self.run.outcomes])


def simulated(name: str = "simulated", **settings: object) -> Variant:
    """Our service on the simulated accelerator; `settings` as of `servers.service`."""
    return service(
        name,
        **{
            "runner": "simulated",
            "sim_fixed_ms": ACCELERATOR.fixed * 1e3,
            "sim_per_item_ms": ACCELERATOR.each * 1e3,
            "sim_per_token_us": 0,
            "max_batch_size": ACCELERATOR.limit,
            **settings,
        },
    )


def requests_to(target: Target, seed: int) -> list[bytes]:
    """No two of these 4,096 are equal: a service that runs equal inputs once runs each of them."""
    texts = workloads.texts("short", workloads.built_in_sentences(), seed)
    return [target.post("/embed", workloads.embed_body(text)) for text in texts]


class Bench(contextlib.AbstractContextManager["Bench"]):
    """Starts the service when something is to be measured; keeps every result."""

    def __init__(
        self,
        record: Record,
        sizes: Sizes,
        seed: int = 1,
        cpus: frozenset[int] | None = None,
        topology: Mapping[str, object] | None = None,
    ) -> None:
        self.record, self.sizes, self.seed, self.cpus = record, sizes, seed, cpus
        self.topology = topology or {}  # Settings of every server that is started.
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self._poisson: dict[float, Poisson] = {}
        self._closed: dict[int, Run] = {}

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """The cores are free for another server; the next measurement starts this one anew."""
        self._server = None
        self._stack.close()

    @functools.cached_property
    def alone(self) -> Run:
        """One caller, who never waits for anybody."""
        run = closedloop.drive(*self._target(), 1, self.sizes.alone)
        self.record.raw("alone", run)
        return run

    @functools.cached_property
    def overhead(self) -> float:
        """Seconds from an unloaded request to its answer, above s(1): HTTP and hand-over."""
        run = self.alone
        median_ms = run.summary(skip=0.5).p50_ms
        overhead = median_ms / 1e3 - ACCELERATOR.time(1)
        say(f"alone: p50 {median_ms:.2f} ms, overhead {overhead * 1e3:.2f} ms")
        return overhead

    @functools.cached_property
    def saturation(self) -> float:
        """Requests a second when the queue never runs dry."""
        run = closedloop.drive(*self._target(), CALLERS, self.sizes.saturated)
        self.record.raw("saturated", run)
        rate = closedloop.throughput(run, min(2.0, self.sizes.saturated / 3))
        say(f"saturated: {rate:.2f}/s of {ACCELERATOR.capacity:.2f}/s")
        return rate

    @property
    def gap(self) -> float:
        """Seconds that the accelerator idles between two full batches."""
        return ACCELERATOR.limit / self.saturation - ACCELERATOR.time(ACCELERATOR.limit)

    def poisson(self, rho: float) -> Poisson:
        """Independent arrivals at this share of the capacity."""
        if rho not in self._poisson:
            rate, seconds = rho * ACCELERATOR.capacity, self.sizes.poisson
            times = arrivals.poisson(rate, seconds, self.seed)
            target, requests = self._target()
            run = referee(target, requests, times, seconds)
            self.record.raw(f"poisson-{rho:g}", run)
            say(f"rho {rho:g}: {run.summary()}")
            self._poisson[rho] = Poisson(rho, rate, times.tolist(), run)
        return self._poisson[rho]

    def closed(self, callers: int) -> Run:
        """Callers that send again at once when they are answered."""
        if callers not in self._closed:
            run = closedloop.drive(*self._target(), callers, self.sizes.closed)
            self.record.raw(f"callers-{callers}", run)
            rate = closedloop.throughput(run, self.skip)
            say(f"{callers} callers: {rate:.2f}/s, mean batch {run.summary().mean_batch:.1f}")
            self._closed[callers] = run
        return self._closed[callers]

    @property
    def runs(self) -> list[tuple[str, Run]]:
        """The open-loop runs so far, whose drivers had a schedule to keep."""
        return [(f"poisson-{rho:g}", played.run) for rho, played in self._poisson.items()]

    @property
    def skip(self) -> float:
        """Seconds at the start of a closed loop that are not judged."""
        return min(2.0, self.sizes.closed / 3)

    def _target(self) -> tuple[Target, list[bytes]]:
        if self._server is None:
            variant = simulated("simulated", **self.topology)
            self._server = self._stack.enter_context(running(variant, self.cpus))
        return self._server.target, requests_to(self._server.target, self.seed)


def unanswered(what: str, run: Run) -> list[Finding]:
    """Nothing when every request was answered 200, as it should; else the finding that misses."""
    failed = sum(outcome.status != OK for outcome in run.outcomes)
    if not failed:
        return []
    return [Finding(f"{what}: not answered 200", failed, need="0", ok=False)]


def late_drivers(runs: Sequence[tuple[str, Run]]) -> list[str]:
    """A line for each run whose driver did not keep its schedule: its figures include that."""
    return [
        f"- the driver was late in `{name}`: {summary.send_lag_p99_ms:.1f} ms (p99)"
        for name, run in runs
        if (summary := run.summary()).late_driver
    ]


def say(line: str) -> None:
    print(line, flush=True)
