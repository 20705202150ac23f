"""What this service makes of a GPU: each path's answers and times, then served, in under 9 minutes.

`loadtests/gpu.sh` starts it where there is no network. What the budget has no room for is left out
and said so. `--small` runs all of it with small sizes, also on a CPU: to see that it works.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from loadtests.drivers.parallel import Load, drivers
from loadtests.drivers.target import count_between, number_between
from loadtests.gpu import paths, served
from loadtests.gpu.budget import Budget
from loadtests.gpu.served import Saturated
from loadtests.reports.finding import Finding, holds, table
from loadtests.reports.options import add_common_arguments, configuration
from loadtests.reports.record import Record
from loadtests.servers.launch import running
from service.repository.locate import find_model

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SHARE, IDLE = 0.85, 0.05
START_SECONDS = 30.0  # Of a server or a path, torch and CUDA with it.
UNBATCHED = "unbatched"


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is measured; `small` is for a CPU."""

    grid: tuple[int, ...] = (1, 4, 16, 64, 256)
    lengths: tuple[int, ...] = (8, 32, 128, 256)
    offline: tuple[int, ...] = (32, 64, 128, 256)
    tokens: tuple[int, ...] = (32, 128)
    count: int = 8192
    side: int = 8192
    fronts: tuple[int, ...] = (1, 2, 4, 8)
    each: tuple[int, ...] = (1, 16)  # Inputs in one HTTP request.
    callers: int = 512
    drivers: int = 6
    seconds: float = 4.0
    rates: tuple[float, ...] = (250.0, 1000.0, 4000.0, 10_000.0)
    path: float = 90.0  # At most, of one path.


SMALL = Sizes(
    grid=(1, 8),
    lengths=(8, 32),
    offline=(8, 32),
    tokens=(16, 32),
    count=128,
    side=512,
    fronts=(1, 2),
    each=(1, 4),
    callers=16,
    drivers=1,
    seconds=2.0,
    rates=(20.0, 50.0),
    path=120.0,
)


@dataclass(slots=True)
class Report:
    """What has been found so far."""

    findings: list[Finding] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--model", type=Path, help="a folder; default: the service's default model")
    parser.add_argument("--small", action="store_true", help="small sizes, also for a CPU")
    parser.add_argument("--minutes", type=number_between(0.5, 60), default=8.5, help="at most")
    parser.add_argument("--dtype", default="auto", help="of the served model")
    parser.add_argument("--drivers", type=count_between(1, 32), help="processes that send")
    parser.add_argument("--paths", nargs="*", choices=paths.PATHS, help="default: all there are")


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when everything that is judged holds."""
    sizes = SMALL if args.small else Sizes()
    device = gpu_name()
    record = Record(args.out, args.name or "gpu", configuration(args) | {"device": device})
    report, budget = Report(), Budget(args.minutes * 60)
    report.say(f"Device: {device}.\n")
    model = str(args.model or DEFAULT_MODEL)
    chosen = args.paths or paths.available(device != "cpu")
    # The compiler may take minutes, and what it makes is not what is served: it gets what is left.
    late = [path for path in chosen if paths.is_compiled(path)]
    alone = Alone(args.dtype, model, sizes, report, budget, device != "cpu")
    with tempfile.TemporaryDirectory(prefix="gpu-") as name:
        folder = Path(name)
        for path in chosen:
            if path not in late:
                alone.measure(folder, path, sizes.path)
        with drivers(args.drivers or sizes.drivers) as pool:
            serve(args, model, sizes, report, budget, pool, alone.best)
        for path in late:
            alone.measure(folder, path, math.inf)
    lines = [f"- left out: {line}" for line in budget.left_out]
    body = "\n".join([table(report.findings), "", *report.lines, *lines])
    record.finish(f"On {device}", body, {"findings": report.findings, **report.figures})
    return 0 if holds(report.findings) else 1


def gpu_name() -> str:
    """As the driver calls it, in a process of its own: CUDA is not to be held here. `cpu`: none."""
    told = (
        "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')"
    )
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.strip()


# Each path alone


@dataclass(slots=True)
class Alone:
    """Measures one path of the forward pass after another, each in a process of its own."""

    dtype: str  # of the served model
    model: str
    sizes: Sizes
    report: Report
    budget: Budget
    on_gpu: bool
    # The best offline rate for each length, of the paths in the precision that is served.
    best: dict[int, float] = field(default_factory=dict)

    def measure(self, folder: Path, path: str, most: float) -> None:
        """`folder` keeps the reference for the paths that come later; `most` seconds."""
        if not self.budget.allows(path, START_SECONDS + 20):
            return
        found, why = measure_path(folder, path, self.model, self.sizes, self.budget, most)
        if found is None:
            self.report.say(f"- {path}: not measured: {why}")
            return
        self.report.figures[path] = found
        self.report.findings += judged_path(path, found)
        for line in path_lines(path, found):
            self.report.say(line)
        if is_served(path, self.dtype, self.on_gpu):
            for length, rates in found["offline"].items():
                self.best[int(length)] = max(self.best.get(int(length), 0.0), *rates.values())


def measure_path(
    folder: Path, path: str, model: str, sizes: Sizes, budget: Budget, most: float
) -> tuple[dict[str, Any] | None, str]:
    slug = path.replace(" ", "-")
    out, reference = folder / f"{slug}.json", folder / f"{paths.REFERENCE.replace(' ', '-')}.npy"
    arguments = [f"--out={out}", f"--vectors={folder / slug}.npy", f"--side={sizes.side}"]
    if reference.exists():
        arguments.append(f"--reference={reference}")
    for flag, values in (
        ("--sizes", sizes.grid),
        ("--lengths", sizes.lengths),
        ("--offline-sizes", sizes.offline),
        ("--offline-lengths", sizes.tokens),
    ):
        arguments += [flag, *map(str, values)]
    arguments += [f"--count={min(sizes.count, 4096)}", f"--seconds={min(0.5, sizes.seconds)}"]
    settings = {"model": model, **paths.PATHS[path]}
    log = folder / f"{slug}.log"
    why = paths.measure(settings, arguments, log, min(most, max(1.0, budget.left)))
    return (None, why) if why else (json.loads(out.read_text()), "")


def is_served(path: str, dtype: str, on_gpu: bool) -> bool:
    """Whether the service may run this path: offline and served are compared in one precision."""
    wanted = dtype if dtype != "auto" else "bfloat16" if on_gpu else "float32"
    return paths.PATHS[path]["dtype"] == wanted and not paths.is_compiled(path)


def judged_path(path: str, found: Mapping[str, Any]) -> list[Finding]:
    least = paths.least_cosine(path)
    cosine = found.get("cosine", 1.0 if found["finite"] else math.nan)
    return [
        Finding(
            f"{path}: least cosine with {paths.REFERENCE}",
            cosine,
            need=f">= {least:g}",
            ok=bool(found["finite"] and cosine >= least),
        )
    ]


def path_lines(path: str, found: Mapping[str, Any]) -> list[str]:
    facts = found["facts"]
    told = ", ".join(
        f"{name} {facts[name]}" for name in ("device", "backend", "dtype") if name in facts
    )
    lines = [
        f"\n**{path}** ({told}; {found['operations_per_s'] / 1e12:.3g} T operations/s, "
        f"{found['bytes_per_s'] / 1e9:.3g} GB/s, warm after {found['warm_seconds']:.1f} s)\n",
        "| inputs | tokens | ms | least possible, ms | inputs/s |",
        "|---|---|---|---|---|",
    ]
    for size, length, seconds, least in found["grid"]:
        times = f"{seconds * 1e3:.3f} | {least * 1e3:.4f}"
        lines.append(f"| {size} | {length} | {times} | {size / seconds:.0f} |")
    for length, rates in found["offline"].items():
        shown = ", ".join(f"{rate:.0f} in batches of {size}" for size, rate in rates.items())
        lines.append(f"\nOffline, {length} tokens, inputs/s: {shown}")
    return lines


# Served


def serve(
    args: argparse.Namespace,
    model: str,
    sizes: Sizes,
    report: Report,
    budget: Budget,
    pool: Pool,
    offline: Mapping[int, float],
) -> None:
    chosen = {n: served.texts(find_model(model), n, sizes.count) for n in sizes.tokens}
    count = args.drivers or sizes.drivers
    same = {"model": model, "dtype": args.dtype}
    report.say(
        "\n| served by | tokens | inputs a request | inputs/s | p50 ms | p95 ms | failed "
        "| no batch, % | none runs, % | mean batch |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    most: dict[int, Saturated] = {}
    ways: list[tuple[str, dict[str, object]]] = [("one process", {"frontends": 1})]
    ways += [(f"{n} fronts", {"frontends": n}) for n in reversed(sizes.fronts) if n > 1]
    ways += [(UNBATCHED, {"frontends": 1, "max_batch_size": 1})]
    rate_lines: list[str] = []
    for place, (name, settings) in enumerate(ways):
        runs = len(sizes.tokens) * len(sizes.each)
        paced = place < 2 or name == UNBATCHED  # One process, the most fronts, and the blog's way.
        needs = START_SECONDS + (runs + len(sizes.rates) * paced) * (sizes.seconds + 1)
        if not budget.allows(f"served by {name}", needs):
            continue
        try:
            with running(served.variant("served", {**same, **settings})) as server:
                for tokens in sizes.tokens:
                    for each in sizes.each if name != UNBATCHED else sizes.each[:1]:
                        found = served.saturated(
                            server,
                            pool,
                            count,
                            chosen[tokens],
                            tokens,
                            each,
                            sizes.callers,
                            sizes.seconds,
                        )
                        report.say(saturated_line(name, found))
                        report.figures.setdefault("saturated", []).append([name, *found])
                        if tokens not in most or found.inputs_per_s > most[tokens].inputs_per_s:
                            most[tokens] = found
                if paced:
                    first = chosen[sizes.tokens[0]]
                    got = served.at_rates(server, pool, count, first, sizes.rates, sizes.seconds)
                    rate_lines += [rate_line(name, rate, load) for rate, load in got]
                    report.figures.setdefault("rates", []).append([name, got])
        except Exception as error:  # It must not cost what the others measured.
            report.say(f"- {name}: not measured: {error!r:.300}")
            report.findings.append(Finding(f"{name}: not measured", math.nan, ok=False))
    report.findings += judged_served(most, offline)
    report.say(
        "\n| served by | offered/s | answered/s | p50 ms | p95 ms | failed |\n"
        "|---|---|---|---|---|---|"
    )
    for line in rate_lines:
        report.say(line)
    report.say(
        "\nBeside it, from the article that this began with, at 250/s: p50/p95 160/400 ms "
        "before batching, 100/240 ms after."
    )


def judged_served(most: Mapping[int, Saturated], offline: Mapping[int, float]) -> list[Finding]:
    found = []
    for tokens, best in most.items():
        ideal = offline.get(tokens)
        if ideal:
            found.append(
                Finding(
                    f"{tokens} tokens: served, beside the best offline",
                    best.inputs_per_s,
                    "/s",
                    ideal,
                    f">= {SHARE:g}",
                    best.inputs_per_s >= SHARE * ideal,
                )
            )
        found.append(
            Finding(
                f"{tokens} tokens: device idle at the highest throughput",
                100 * best.resting,
                "%",
                need=f"<= {100 * IDLE:g}",
                ok=best.resting <= IDLE,
            )
        )
    return found


def saturated_line(name: str, found: Saturated) -> str:
    load = found.load
    return (
        f"| {name} | {found.tokens} | {found.each} | {found.inputs_per_s:.0f} | {load.p50_ms:.1f} "
        f"| {load.p95_ms:.1f} | {load.failed} | {100 * found.idle:.1f} | {100 * found.resting:.1f} "
        f"| {found.mean_batch:.1f} |"
    )


def rate_line(name: str, rate: float, load: Load) -> str:
    return (
        f"| {name} | {rate:g} | {load.answered_per_s:.0f} | {load.p50_ms:.1f} | {load.p95_ms:.1f} "
        f"| {load.failed} |"
    )
