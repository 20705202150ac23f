"""Does a busy front slow the model? Forward times while wrk saturates a health route, and not."""

import argparse
import contextlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from loadtests.drivers import closedloop, workloads
from loadtests.drivers.pinning import pin_threads, pinned
from loadtests.drivers.target import count_between, number_between
from loadtests.drivers.wrk import WrkReport, getting
from loadtests.reports.finding import Finding, Measured, spread
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import ROOT, Server, running, service

TITLE = "Time of one forward while the front is quiet and while it is saturated"
FRONT, WORKER = frozenset({0}), frozenset({1})
CONTROL = "control: a bare forward beside an unrelated busy core"
CONTROL_SECONDS = 120  # At most, for one process of the control: loading torch, then its forwards.
SPIN = f"import signal; signal.alarm({2 * CONTROL_SECONDS})\nwhile True: pass"  # Ends if orphaned.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=number_between(2, 60), default=10.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)
    parser.add_argument("--connections", type=count_between(1, 1024), default=64)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    text = workloads.texts("short", workloads.load_sentences(args.sentences), seed=1, count=1)[0]
    findings, notes = [], []
    for isolation in ("process", "thread"):
        times: dict[str, list[float]] = defaultdict(list)
        with running(service(isolation, isolation=isolation, threads=1)) as server:
            _pin(server, isolation)
            request = server.target.post("/embed", workloads.embed_body(text))
            for repeat in range(args.repeats):
                for front in ("quiet", "saturated"):
                    with _load(server, args, front == "saturated") as reports, pinned(WORKER):
                        # One caller on the worker's core: it runs only while the worker does not.
                        run = closedloop.drive(server.target, [request], 1, args.seconds - 1)
                    record.raw(f"{isolation}-{front}-{repeat}", run)
                    alone = [
                        out.phases()["inference"] for out in run.outcomes if out.batch_size == 1
                    ]
                    times[front].append(median(alone))
                    load = f", wrk {reports[0].requests_per_s:.0f}/s" if reports else ""
                    print(
                        f"{isolation} {front}: p50 {times[front][-1]:.2f} ms "
                        f"of {len(alone)} forwards{load}",
                        flush=True,
                    )
        ratio = median(times["saturated"]) / median(times["quiet"])
        judged = isolation == "process"
        findings.append(
            Finding(
                f"BATCHER_ISOLATION={isolation}: p50 of inference, saturated over quiet",
                ratio,
                "x",
                ideal=1.0,
                need="<= 1.3" if judged else "",
                ok=ratio <= 1.3 if judged else None,
            )
        )
        notes += [f"- {isolation}, {front}: {spread(values)} ms" for front, values in times.items()]
    control, times = _control(text, args.repeats)
    findings.append(control)
    notes += [f"- bare forward, {beside}: {spread(values)} ms" for beside, values in times.items()]
    return Measured(
        findings,
        "Front and wrk on core 0, the model on core 1. The control is the same model in a bare "
        "process on core 1, while core 0 is idle and while it spins in a process that has nothing "
        "to do with it: what the machine itself does to a forward (shared core, cache, clock).\n\n"
        + "\n".join(notes),
    )


def _control(text: str, repeats: int) -> tuple[Finding, dict[str, list[float]]]:
    """Reported, not judged: it tells the machine's part from the service's."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        times["alone"].append(_bare_forward(text))
        with spinning(FRONT):
            times["beside a busy core"].append(_bare_forward(text))
        print(", ".join(f"bare forward {key}: {ms[-1]:.2f} ms" for key, ms in times.items()))
    ratio = median(times["beside a busy core"]) / median(times["alone"])
    return Finding(CONTROL, ratio, "x", ideal=1.0), times


def _bare_forward(text: str) -> float:
    """The p50 in ms. Raises CalledProcessError, or TimeoutExpired once the process is killed."""
    module = "loadtests.baselines.forward"
    with pinned(WORKER):
        done = subprocess.run(
            [sys.executable, "-m", module, "--threads=1", f"--text={text}"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=CONTROL_SECONDS,
            check=True,
        )
    return float(done.stdout)


@contextlib.contextmanager
def spinning(cpus: frozenset[int]) -> Iterator[int]:
    """A process that only spins, on those cores; killed however the block ends."""
    with pinned(cpus):
        process = subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _load(server: Server, args: argparse.Namespace, saturate: bool) -> Iterator[list[WrkReport]]:
    if not saturate:
        yield []
        return
    with getting(server.target, "/health/live", args.connections, args.seconds, FRONT) as reports:
        yield reports


def _pin(server: Server, isolation: str) -> None:
    """The model on one core, all else on the other.

    With no process of its own the model runs in a thread beside the event loop; then every thread
    but the loop's goes to the model's core, and what is left to fight for is the interpreter lock.
    """
    threads = processes.threads(server.pids)
    if isolation == "process":
        hosts = {pid for pid in server.pids if "spawn_main" in processes.command(pid)}
        if not hosts:
            raise RuntimeError("no worker process among the server's children")
        model = [thread.tid for thread in threads if thread.pid in hosts]
    else:
        model = [thread.tid for thread in threads if not thread.is_main]
    pin_threads([thread.tid for thread in threads if thread.tid not in model], FRONT)
    pin_threads(model, WORKER)
