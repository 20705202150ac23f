"""Looks at candidates: starts each, keeps few alive, drives one at a time, stops them all.

A service that nobody asks uses no CPU, so those that wait their turn do not disturb the one that is
measured, and runs can be interleaved without a start for each.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.drivers import arrivals, closedloop, workloads
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.outcomes import OK, Summary
from loadtests.servers.launch import ROOT, Server, Variant, running
from loadtests.tune.candidates import TUNED
from loadtests.tune.search import Candidate, Look

ALIVE_ON_CPU = 3
ALIVE_ELSEWHERE = 1  # The memory of an accelerator is not shared out while it is measured.
CALLERS = 16
WARM_SECONDS = 1.0
UNANSWERED = 0.01  # More than this and it did not hold the rate, whatever the p95 of the others.
MOST_REQUESTS = 30_000  # In one look: enough for any p95.

# Of the tuner's own environment. A cache of answers would be tuned in place of the model.
_NOT_PASSED = {"BATCHER_PORT", "BATCHER_HOST", "BATCHER_API_KEY", "BATCHER_CACHE_BYTES"}


def base_settings(runner: str | None, threads: int | None) -> dict[str, str]:
    """What all candidates share: the environment's settings but for what is tuned, and flags."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("BATCHER_")
        and not key.startswith("BATCHER_LOADTEST_")
        and key not in _NOT_PASSED
        and key not in TUNED
    }
    if runner is not None:
        kept["BATCHER_RUNNER"] = runner
    if threads is not None:
        kept["BATCHER_THREADS"] = str(threads)
    return kept | {"BATCHER_DRAIN_DELAY_MS": "0"}  # Nobody balances load over these.


def check(settings: Mapping[str, str]) -> None:
    """Raises ValueError with the service's one line when it would not start with these."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "--print-config"],
        env=_environment(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["the service does not start"])[-1])


@dataclass(frozen=True, slots=True)
class Alone:
    """A candidate without a queue. Seconds: the latency of one caller, and of CALLERS."""

    median: float
    p95: float
    together: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One look, whole."""

    candidate: str
    rate: float
    repeat: int
    seconds: float
    summary: Summary
    largest_batch: int

    @property
    def look(self) -> Look:
        answered = self.summary.answered_share >= 1 - UNANSWERED
        p95 = self.summary.p95_ms if answered else float("inf")
        return Look(self.rate, p95, self.summary.requests)


class Bench:
    def __init__(
        self,
        base: Mapping[str, str],
        requests: Callable[[int], Sequence[str]],
        target_ms: float,
        cpus: frozenset[int] | None,
        say: Callable[[str], None],
    ) -> None:
        """`requests` gives the texts of a seed; they must all differ."""
        self._base, self._texts, self._target_ms = dict(base), requests, target_ms
        self._cpus, self._say = cpus, say
        self._alive: dict[Candidate, tuple[Server, contextlib.ExitStack]] = {}  # Oldest use first.
        self._most_alive = ALIVE_ON_CPU
        self.alone: dict[Candidate, Alone] = {}
        self.seen: list[Seen] = []

    def settings(self, candidate: Candidate) -> dict[str, str]:
        return self._base | dict(candidate.settings)

    def look(self, candidate: Candidate, rate: float, seed: int, seconds: float) -> Run:
        """Poisson arrivals for `seconds`; kept in `seen`."""
        server = self.ready(candidate)
        seconds = min(seconds, MOST_REQUESTS / rate)
        bodies = self._bodies(server, seed)
        closedloop.drive(server.target, bodies, 1, 2.0, most=2)  # After all that was left behind.
        times = arrivals.poisson(rate, seconds, seed)
        if not len(times):
            raise RuntimeError(f"{rate:.3g}/s is too low a rate to be measured in {seconds:.3g} s")
        grace = max(0.5, 4 * self._target_ms / 1e3)
        run = referee(server.target, bodies, times, seconds, grace=grace)
        largest = max(outcome.batch_size for outcome in run.outcomes)
        seen = Seen(candidate.name, rate, seed, seconds, run.summary(), largest)
        self.seen.append(seen)
        self._say(f"{candidate.name}: {rate:.4g}/s for {seconds:.1f} s: {self._outcome(seen)}")
        return run

    def ready(self, candidate: Candidate) -> Server:
        """Started, warm, and the last to be stopped for want of room."""
        if candidate not in self._alive:
            self._make_room(self._most_alive - 1)
            try:
                self._start(candidate)
            except RuntimeError:
                if not self._alive:
                    raise
                self._make_room(0)  # Not enough memory for several, perhaps.
                self._most_alive = 1
                self._start(candidate)
        self._alive[candidate] = self._alive.pop(candidate)
        return self._alive[candidate][0]

    def facts(self, candidate: Candidate) -> dict[str, Any]:
        """Of /stats and /info, with what the first replica says of itself under `facts`."""
        server = self.ready(candidate)
        stats = json.loads(server.get("/stats")[1])
        replicas = stats.get("replicas") or [{}]
        info = json.loads(server.get("/info")[1])
        # As learned on this device; /info has what was set, or the most that can be learned.
        budget = replicas[0].get("max_batch_tokens") or info.get("max_batch_tokens")
        facts = replicas[0].get("facts") or {}
        return {**info, **stats, "facts": facts, "max_batch_tokens": budget}

    def keep_few(self, device: str) -> None:
        if device not in ("cpu", "simulated"):
            self._most_alive = ALIVE_ELSEWHERE

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """However the block ends, no server is left."""
        try:
            yield
        finally:
            self._make_room(0)

    def _start(self, candidate: Candidate) -> None:
        stack = contextlib.ExitStack()
        with contextlib.ExitStack() as starting:
            variant = Variant(candidate.name, "service", (), self.settings(candidate))
            server = starting.enter_context(running(variant, self._cpus))
            alone = self._warm(server)
            stack = starting.pop_all()
        self._alive[candidate] = (server, stack)
        if candidate not in self.alone:
            self.alone[candidate] = alone
            self._say(f"{candidate.name}: started, one request alone {alone.median * 1e3:.1f} ms")

    def _warm(self, server: Server) -> Alone:
        """Every candidate gets the same; the first forwards of a size are slow, hence twice."""
        bodies = self._bodies(server, 0)
        closedloop.drive(server.target, bodies, CALLERS, WARM_SECONDS / 2)
        one = closedloop.drive(server.target, bodies, 1, WARM_SECONDS).summary()
        many = closedloop.drive(server.target, bodies, CALLERS, WARM_SECONDS).summary()
        if OK not in one.statuses:
            raise RuntimeError(f"no request was answered 200, but {', '.join(one.statuses)}")
        return Alone(one.p50_ms / 1e3, one.p95_ms / 1e3, many.p50_ms / 1e3)

    def _bodies(self, server: Server, seed: int) -> list[bytes]:
        return [
            server.target.post("/embed", workloads.embed_body(text)) for text in self._texts(seed)
        ]

    def _make_room(self, most: int) -> None:
        while len(self._alive) > most:
            _, stack = self._alive.pop(next(iter(self._alive)))
            stack.close()

    def _outcome(self, seen: Seen) -> str:
        summary = seen.summary
        verdict = "holds" if seen.look.p95_ms <= self._target_ms else "over"
        unanswered = f", {1 - summary.answered_share:.1%} unanswered" * (summary.answered_share < 1)
        late = f", driver late by {summary.send_lag_p99_ms:.0f} ms" if summary.late_driver else ""
        batch = f", mean batch {summary.mean_batch:.1f}" if summary.mean_batch else ""
        return f"p95 {summary.p95_ms:.1f} ms, {verdict}{batch}{unanswered}{late}"


def shown(settings: Mapping[str, str]) -> dict[str, str]:
    """Results are public: of folders only the last part."""
    return {
        key: f"…/{Path(value).name}" if os.path.isabs(value) else value
        for key, value in settings.items()
    }


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    return inherited | {"PYTHONPATH": str(ROOT)} | dict(settings)
