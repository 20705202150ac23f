"""What each idea buys: the same arrivals on the same accelerator, and only the policy differs.

Ours and the usual loop (`baselines/pickup.py`) over HTTP; take-all and no batching computed, free
of any overhead. The usual loop waits 5 ms, as people write it, and 50 ms, the same in proportion:
this accelerator is ten times slower than those it stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.checks.yardsticks.bench import (
    ACCELERATOR,
    Bench,
    requests_to,
    say,
    simulated,
    unanswered,
)
from loadtests.drivers import arrivals, closedloop
from loadtests.drivers.arrivals import Times
from loadtests.drivers.openloop import referee
from loadtests.reports.finding import Finding, Measured
from loadtests.servers.launch import Server, Variant, running
from loadtests.theory.queueing import Accelerator, Vector, take_all

RHO = 0.5
CALLERS = 8
UNBATCHED = Accelerator(ACCELERATOR.fixed, ACCELERATOR.each, limit=1)
GRACE_SECONDS = 15.0
COMPUTED = ("take-all, computed", "no batching, computed")


def usual(wait_ms: float) -> Variant:
    arguments = (
        "--port={port}",
        f"--max-batch={ACCELERATOR.limit}",
        f"--max-wait-ms={wait_ms:g}",
        f"--fixed-ms={ACCELERATOR.fixed * 1e3:g}",
        f"--each-ms={ACCELERATOR.each * 1e3:g}",
    )
    return Variant(f"usual loop {wait_ms:g} ms", "loadtests.baselines.pickup", arguments)


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy under one pattern: latencies, or with callers in a closed loop a rate."""

    latencies: Vector | None = None
    rate: float = 0.0

    def __str__(self) -> str:
        if self.latencies is None:
            return f"{self.rate:.1f}/s"
        mean, p95 = self.latencies.mean() * 1e3, np.percentile(self.latencies, 95) * 1e3
        return f"{mean:.0f} / {p95:.0f}"


def baselines(bench: Bench, folder: Path | None, waits_ms: Sequence[float]) -> Measured:
    bench.stop()
    variants = [simulated("ours"), *(usual(wait_ms) for wait_ms in waits_ms)]
    playing = patterns(bench, folder)
    closed = f"{CALLERS} callers"
    cells: dict[tuple[str, str], Cell] = {}
    failed: list[Finding] = []
    for variant in variants:
        with running(variant, bench.cpus) as server:
            for pattern, times in playing.items():
                cell, missed = _open(bench, server, variant.name, pattern, times)
                cells[pattern, variant.name] = cell
                failed += missed
            cells[closed, variant.name] = _closed(bench, server, variant.name)
    for pattern, times in playing.items():
        for name, accelerator in zip(COMPUTED, (ACCELERATOR, UNBATCHED), strict=True):
            cells[pattern, name] = Cell(take_all(times.tolist(), accelerator))
    for name, rate in zip(
        COMPUTED, (ACCELERATOR.two_groups(CALLERS), UNBATCHED.capacity), strict=True
    ):
        cells[closed, name] = Cell(rate=rate)
    names = [variant.name for variant in variants] + list(COMPUTED)
    findings = [found for name in names if name != COMPUTED[0] for found in _rows(cells, name)]
    return Measured(failed + findings, _notes(cells, [*playing, closed], names))


def patterns(bench: Bench, folder: Path | None) -> dict[str, Times]:
    """Arrivals by name, all at half of the capacity; traces where there is a folder of them."""
    rate, seconds, seed = RHO * ACCELERATOR.capacity, bench.sizes.pattern, bench.seed
    found = {
        "Poisson": arrivals.poisson(rate, seconds, seed),
        "bursts": arrivals.bursts(rate, seconds, seed),
    }
    if folder is not None:
        for name, trace in traces(folder).items():
            found[name] = arrivals.replay(trace, rate, seconds, seed)
    return found


def traces(folder: Path) -> dict[str, list[float]]:
    """Times by name. Raises ValueError for a folder without CSV files or with one that is no trace,
    OSError for one that cannot be read."""
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise ValueError(f"{folder}: no *.csv files there")
    return {path.stem: arrivals.read_trace(path) for path in paths}


def _open(
    bench: Bench, server: Server, name: str, pattern: str, times: Times
) -> tuple[Cell, list[Finding]]:
    requests, seconds = requests_to(server.target, bench.seed), bench.sizes.pattern
    run = referee(server.target, requests, times, seconds, grace=GRACE_SECONDS)
    bench.record.raw(f"{pattern}-{name.replace(' ', '-')}", run)
    say(f"{pattern}, {name}: {run.summary()}")
    return Cell(np.array([out.latency for out in run.outcomes])), unanswered(
        f"{pattern}, {name}", run
    )


def _closed(bench: Bench, server: Server, name: str) -> Cell:
    seconds = bench.sizes.closed
    requests = requests_to(server.target, bench.seed)
    run = closedloop.drive(server.target, requests, CALLERS, seconds)
    bench.record.raw(f"callers-{CALLERS}-{name.replace(' ', '-')}", run)
    rate = closedloop.throughput(run, bench.skip)
    say(f"{CALLERS} callers, {name}: {rate:.1f}/s")
    return Cell(rate=rate)


def _rows(cells: dict[tuple[str, str], Cell], name: str) -> list[Finding]:
    """Reported, not judged: the ideal is take-all of the same arrivals, or one group of callers."""
    rows = []
    for (pattern, policy), cell in cells.items():
        if policy != name:
            continue
        if cell.latencies is None:
            ideal = ACCELERATOR.one_group(CALLERS)
            rows.append(Finding(f"{pattern}: {name}", cell.rate, "/s", ideal))
            continue
        best = cells[pattern, COMPUTED[0]].latencies
        assert best is not None, "a pattern without its ideal: this is a bug"
        mean, ideal = (float(values.mean()) * 1e3 for values in (cell.latencies, best))
        rows.append(Finding(f"{pattern}: mean, {name}", mean, "ms", ideal))
    return rows


def _notes(
    cells: dict[tuple[str, str], Cell], patterns: Sequence[str], names: Sequence[str]
) -> str:
    lines = [f"| arrivals | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for pattern in patterns:
        row = [str(cells[pattern, name]) for name in names]
        lines.append(f"| {pattern} | {' | '.join(row)} |")
    rate = RHO * ACCELERATOR.capacity
    return (
        f"What each idea buys: {rate:.0f}/s of each pattern, mean / p95 in ms, and {CALLERS} "
        "callers in a closed loop. Without batching the queue grows for as long as the run "
        f"lasts: its capacity is {UNBATCHED.capacity:.1f}/s.\n\n" + "\n".join(lines)
    )
