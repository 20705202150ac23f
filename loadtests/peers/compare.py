"""Our service, the same model unbatched, and the busy loop of the blogs, on the same cores.

Three parts: each variant climbs a ladder of rates until it breaks; a bisection finds where the
unbatched server's p95 is 400 ms; then the rates that matter are measured again for all variants in
turn, several times. The referee drives everything, Locust the rates that matter beside it.
"""

import argparse
import time
from collections.abc import Sequence

from loadtests.drivers import workloads
from loadtests.drivers.target import count_between, number_between
from loadtests.peers import comparison as report
from loadtests.peers.bench import LOCUST_START_SECONDS, START_SECONDS, WARM_SECONDS, Bench, Point
from loadtests.reports.finding import Finding, holds, table
from loadtests.reports.options import add_common_arguments, configuration
from loadtests.reports.plots import check_matplotlib
from loadtests.reports.record import Record
from loadtests.servers.launch import Variant, service
from loadtests.theory import ladder

OURS, UNBATCHED, BUSYLOOP = "ours", "unbatched", "busyloop"
KNEE_P95_MS = 400.0  # Where the blog stood before it batched.
HOLDS_P95_MS = 100.0
PROBES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--rates", type=rates_argument, default=[250.0], metavar="250,...")
    parser.add_argument("--seconds", type=number_between(2, 120), default=5.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3, help="of what matters")
    parser.add_argument("--minutes", type=number_between(0.5, 120), default=12.0, help="at most")
    parser.add_argument("--texts", choices=workloads.KINDS, default="short")
    parser.add_argument("--threads", type=count_between(1, 256), default=2, help="of each forward")
    parser.add_argument("--max-batch", type=count_between(1, 1024), default=64)
    parser.add_argument(
        "--max-wait-ms", type=number_between(0, 1000), default=10.0, help="of the busy loop"
    )
    parser.add_argument("--no-locust", action="store_true", help="the referee alone")


def rates_argument(text: str) -> list[float]:
    rate = number_between(0.5, 10_000)
    return [rate(part) for part in text.split(",")]


def variants(args: argparse.Namespace) -> list[Variant]:
    common = ("--port={port}", f"--threads={args.threads}")
    waits = (f"--max-batch={args.max_batch}", f"--max-wait-ms={args.max_wait_ms:g}")
    ours = service(OURS, max_batch_size=args.max_batch, threads=args.threads, dtype="float32")
    return [
        ours,
        Variant(UNBATCHED, "loadtests.baselines.unbatched", common),
        Variant(BUSYLOOP, "loadtests.baselines.busyloop", (*common, *waits)),
    ]


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when ours is as far ahead as it is claimed to be."""
    check_matplotlib()
    started = time.monotonic()
    subjects = variants(args)
    described = {subject.name: subject.describe() for subject in subjects}
    record = Record(args.out, args.name or "compare", configuration(args) | described)
    bench = Bench(args, record, started + args.minutes * 60)
    print(f"about {_estimate(args):.0f} minutes, at most {args.minutes:g}", flush=True)
    for subject in subjects:
        _climb(bench, subject, args)
    knee = _knee(bench, subjects[1], args)
    collapse = collapsed_rate(bench.points)
    key_rates = [*args.rates, *(rate for rate in (knee, collapse) if rate is not None)]
    _repeat(bench, subjects, key_rates, args)
    findings = claims(bench.points, args.rates, knee)
    body = report.comparison(bench.points, knee, table(findings), bench.left_out)
    report.plot_latencies(record.path / "latency.png", bench.points)
    report.plot_batches(record.path / "batches.png", bench.points, OURS)
    record.finish("Batching compared", body, {"findings": findings, "points": bench.points})
    return 0 if holds(findings) else 1


def collapsed_rate(points: Sequence[Point]) -> float | None:
    """The lowest rate at which ours holds and both baselines have collapsed, there or below."""
    breaking = {
        name: min((p.rate for p in points if p.variant == name and p.broken), default=float("inf"))
        for name in (UNBATCHED, BUSYLOOP)
    }
    holding = [
        point.rate
        for point in points
        if point.variant == OURS
        and not point.broken
        and point.referee.p95_ms < HOLDS_P95_MS
        and point.rate >= max(breaking.values())
    ]
    return min(holding, default=None)


def claims(points: Sequence[Point], rates: Sequence[float], knee: float | None) -> list[Finding]:
    """What is claimed of the comparison, judged on medians over the repeats, by the referee."""
    findings = []
    for rate in rates:
        for name in ("p50_ms", "p95_ms"):
            ours, best = (report.figure(points, who, rate, name) for who in (OURS, None))
            if ours is not None and best is not None:
                what = f"{rate:g}/s: {name[:3]} of ours, of the better baseline"
                findings.append(
                    Finding(what, ours, "ms", ideal=best, need="the first", ok=ours < best)
                )
    for name, share in (("p95_ms", 0.2), ("p50_ms", 0.5)):
        if knee is None:
            break
        ours, best = (report.figure(points, who, knee, name) for who in (OURS, None))
        if ours is not None and best is not None:
            what = f"{knee:.3g}/s (unbatched p95 at {KNEE_P95_MS:g} ms): {name[:3]} of ours"
            findings.append(
                Finding(what, ours, "ms", best, f"<= {share:g} of it", ok=ours <= share * best)
            )
    collapse = collapsed_rate(points)
    ours = None if collapse is None else report.figure(points, OURS, collapse, "p95_ms")
    findings.append(
        Finding(
            "p95 of ours where both baselines have collapsed"
            + (f" ({collapse:g}/s)" if collapse else ": no such rate measured"),
            ours or 0.0,
            "ms",
            need=f"< {HOLDS_P95_MS:g}",
            ok=ours is not None and ours < HOLDS_P95_MS,
        )
    )
    return findings


def _climb(bench: Bench, subject: Variant, args: argparse.Namespace) -> None:
    def held(rate: float) -> bool:
        last = bench.points[-1]
        return not (last.variant == subject.name and last.rate == rate and last.broken)

    with bench.serving(subject):
        for rate in ladder.climb(args.rates, held):
            with_locust = rate in args.rates and not args.no_locust
            if bench.has_time_for(f"{subject.name} at {rate:g}/s", _run_seconds(args, with_locust)):
                bench.measure(rate, 0, args.seconds, with_locust)


def _knee(bench: Bench, unbatched: Variant, args: argparse.Namespace) -> float | None:
    """The rate at which the unbatched server's p95 reaches 400 ms; None: no time to find it."""
    if not bench.has_time_for("the bisection", PROBES * 2 * args.seconds):
        return None
    held = [p.rate for p in bench.points if p.variant == UNBATCHED and not p.broken]
    fell = [p.rate for p in bench.points if p.variant == UNBATCHED and p.broken]
    low, high = max(held, default=1.0) / 2, min(fell, default=ladder.RUNGS[-1])

    def over(rate: float) -> bool:
        p95 = bench.probe(rate, 2 * args.seconds).p95_ms
        print(f"{UNBATCHED:10} {rate:6.4g}/s probe: p95 {p95:.0f} ms", flush=True)
        return p95 > KNEE_P95_MS

    with bench.serving(unbatched):
        return round(ladder.bisect(low, high, PROBES, over), 1)


def _repeat(
    bench: Bench, subjects: Sequence[Variant], rates: Sequence[float], args: argparse.Namespace
) -> None:
    """Interleaved: whatever else the machine does meets all variants alike.

    A variant that collapsed at a rate is not measured there again: once is enough.
    """
    for repeat in range(1, args.repeats + 1):
        for subject in subjects:
            with bench.serving(subject):
                for rate in sorted(set(rates)):
                    earlier = report.points_of(bench.points, subject.name, rate)
                    if any(point.broken for point in earlier):
                        continue
                    what = f"{subject.name} at {rate:g}/s, repeat {repeat}"
                    if bench.has_time_for(what, _run_seconds(args, not args.no_locust)):
                        bench.measure(rate, repeat, args.seconds, not args.no_locust)


def _run_seconds(args: argparse.Namespace, with_locust: bool) -> float:
    seconds: float = args.seconds
    return seconds + WARM_SECONDS + with_locust * (seconds + LOCUST_START_SECONDS)


def _estimate(args: argparse.Namespace) -> float:
    """Minutes: as if ours climbed 12 rungs and the baselines 7, and both collapsed at two rates."""
    with_locust, key_rates = not args.no_locust, len(args.rates) + 2
    climbs = 3 * len(args.rates) * _run_seconds(args, with_locust) + 26 * _run_seconds(args, False)
    repeats = (args.repeats * (key_rates + 2) + 2) * _run_seconds(args, with_locust)
    starts = 9 + PROBES // 2 + 3 * args.repeats + 4
    seconds: float = climbs + repeats + PROBES * 2 * args.seconds + starts * START_SECONDS
    return seconds / 60
