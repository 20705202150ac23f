"""How much of what the model can do reaches the callers? Served against offline, on equal cores.

Offline is the service's own runner in a process of its own: the same sentences, tokenised before,
sorted by length, in batches of the size that turns out best. The forward pass has the same cores
to itself both times; HTTP, tokenising and the load are on the others.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from loadtests.baselines.offline import READY
from loadtests.checks.isolation import spinning
from loadtests.drivers import closedloop, workloads
from loadtests.drivers.outcomes import OK, mean_batch
from loadtests.drivers.pinning import pin_threads, pinned
from loadtests.drivers.target import count_between, cpus_argument, number_between, setting_argument
from loadtests.reports.finding import Finding, Measured, over, spread
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import (
    ROOT,
    STOP_SECONDS,
    Server,
    add_topology,
    python_path,
    running,
    service,
    topology,
)


class Offline:
    """A running `loadtests.baselines.offline`. Idle, it waits for a line and uses no CPU."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self._log = process, log

    def rate(self, size: int, seconds: float) -> float:
        """Texts a second in batches of that size, all texts sorted by length."""
        self._ask(f"{size} {seconds}")
        return float(self.answer())

    def answer(self) -> str:
        """Raises RuntimeError with the end of its log when it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"the offline forward pass has ended; its log ends:\n{tail}")
        return line.strip()

    def _ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def offline(
    texts: Sequence[str], settings: Mapping[str, str], cpus: frozenset[int] | None
) -> Iterator[Offline]:
    """Warm, on those cores, with the service's own variables; ended however the block ends."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    with tempfile.TemporaryDirectory(prefix="offline-") as folder:
        listed, log = Path(folder, "texts.json"), Path(folder, "log")
        listed.write_text(json.dumps(list(texts)))
        with log.open("wb") as errors, pinned(cpus):
            process = subprocess.Popen(
                [sys.executable, "-m", "loadtests.baselines.offline", f"--texts={listed}"],
                cwd=ROOT,
                env=inherited | {"PYTHONPATH": python_path()} | dict(settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            made = Offline(process, log)
            said = made.answer()
            assert said == READY, f"{said!r} before it was ready: this is a bug"
            yield made
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """It ends by itself when there is nothing more to read; else it is killed."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):  # It has ended with a line of ours unread.
            stream.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


TITLE = "Served throughput of the default model as a share of its best offline throughput"
SHARE = 0.85
SKIP = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--callers", type=count_between(1, 1024), default=64)
    parser.add_argument("--seconds", type=number_between(3, 120), default=12.0, help="served")
    parser.add_argument("--offline-seconds", type=number_between(0.2, 60), default=2.0, help="each")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)
    parser.add_argument(
        "--sizes", type=count_between(1, 1024), nargs="*", default=[4, 8, 16, 32, 64, 128]
    )
    parser.add_argument("--count", type=count_between(64, 4096), default=1024, help="of texts")
    parser.add_argument("--texts", choices=workloads.KINDS, default="all")
    parser.add_argument(
        "--model-cpus", type=cpus_argument, help="cores of the model; default: half, the first"
    )
    parser.add_argument(
        "--set", type=setting_argument, action="append", default=[], metavar="backend=onnx"
    )
    add_topology(parser)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    model, others = cores(os.sched_getaffinity(0), args.model_cpus)
    settings = {"threads": len(model), **dict(args.set)}
    texts = workloads.texts(args.texts, workloads.load_sentences(args.sentences), 1, args.count)
    variant = service("served", **settings, **topology(args))
    alone: dict[int, list[float]] = defaultdict(list)
    beside: list[float] = []
    served: list[float] = []
    sizes: list[float] = []
    with (
        offline(texts, service("offline", **settings).settings, model) as forward,
        running(variant) as server,
    ):
        facts = _pin(server, model, others)
        for repeat in range(args.repeats):
            for size in args.sizes:
                alone[size].append(forward.rate(size, args.offline_seconds))
            best = best_size(alone)
            if others != model:
                with spinning(others):
                    beside.append(forward.rate(best, args.offline_seconds))
            requests = [server.target.post("/embed", workloads.embed_body(text)) for text in texts]
            with pinned(others):
                run = closedloop.drive(server.target, requests, args.callers, args.seconds)
            record.raw(f"served-{repeat}", run)
            served.append(closedloop.throughput(run, min(SKIP, args.seconds / 3)))
            sizes.append(mean_batch([out for out in run.outcomes if out.status == OK]))
            print(
                f"{repeat + 1}/{args.repeats}: offline {alone[best][-1]:.1f}/s in batches of "
                f"{best}, served {served[-1]:.1f}/s, mean batch {sizes[-1]:.1f}",
                flush=True,
            )
    lines = [f"- offline, batches of {size}: {spread(rates)}/s" for size, rates in alone.items()]
    if beside:
        lines.append(f"- offline, best size, beside busy other cores: {spread(beside)}/s")
    lines += [f"- served: {spread(served)}/s", f"- the model: {facts}"]
    notes = f"Cores of the model {sorted(model)}, of all else {sorted(others)}.\n\n"
    return Measured(judged(alone, beside, served, sizes), notes + "\n".join(lines))


def cores(
    available: set[int], asked: frozenset[int] | None
) -> tuple[frozenset[int], frozenset[int]]:
    """Those of the model, and those of HTTP and the load; with one core both are that one."""
    ordered = sorted(available)
    model = asked or frozenset(ordered[: max(1, len(ordered) // 2)])
    return model, frozenset(available) - model or model


def best_size(rates: Mapping[int, Sequence[float]]) -> int:
    return max(rates, key=lambda size: median(rates[size]))


def judged(
    alone: Mapping[int, Sequence[float]],
    beside: Sequence[float],
    served: Sequence[float],
    sizes: Sequence[float],
) -> list[Finding]:
    best = best_size(alone)
    share, ideal = over(served, alone[best]), median(alone[best])
    found = [
        Finding(
            f"served, beside the best offline (batches of {best})",
            share,
            "x",
            need=f">= {SHARE:g}",
            ok=share >= SHARE,
        ),
        Finding("medians", median(served), "/s", ideal),
        Finding("mean batch, served", median(sizes)),
    ]
    if beside:
        # What the machine takes where its cores share caches and clock: nobody's to win back.
        found.append(Finding("offline beside busy other cores", median(beside), "/s", ideal))
    return found


def _pin(server: Server, model: frozenset[int], others: frozenset[int]) -> str:
    """Workers on the cores of the model, all else on the others. Returns what the workers are."""
    status, body = server.get("/stats")
    if status != 200:
        raise RuntimeError(f"/stats answered {status}")
    facts = [replica["facts"] for replica in json.loads(body)["replicas"]]
    workers = {int(fact["pid"]) for fact in facts}
    threads = processes.threads(server.pids)
    pin_threads([thread.tid for thread in threads if thread.pid in workers], model)
    pin_threads([thread.tid for thread in threads if thread.pid not in workers], others)
    return ", ".join(f"{name} {facts[0].get(name)}" for name in ("backend", "dtype", "threads"))
