"""Does an idle service rest? CPU time and wake-ups of every thread, for a minute after load."""

import argparse
import time

from loadtests.drivers import closedloop, workloads
from loadtests.drivers.target import number_between
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import running, service

TITLE = "An idle service, after load"
SETTLE_SECONDS = 8.0  # Over uvicorn's 5 s of keep-alive.
UVICORN_TICKS = 10.0  # A second, on the main thread of an HTTP process.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=number_between(1, 600), default=60.0, help="of idleness")
    parser.add_argument("--runner", default="transformers", help="default: of the default model")
    parser.add_argument("--load-seconds", type=number_between(1, 60), default=5.0)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    texts = workloads.texts("short", workloads.load_sentences(args.sentences), seed=1)
    with running(service("service", runner=args.runner), args.cpus) as server:
        requests = [server.target.post("/embed", workloads.embed_body(text)) for text in texts]
        closedloop.drive(server.target, requests, 16, args.load_seconds)
        time.sleep(SETTLE_SECONDS)
        before = {thread.tid: thread for thread in processes.threads(server.pids)}
        print(f"{len(before)} threads, idle for {args.seconds:g} s", flush=True)
        started = time.monotonic()
        time.sleep(args.seconds)  # Doing nothing is the measurement.
        seconds = time.monotonic() - started
        after = {thread.tid: thread for thread in processes.threads(server.pids)}
        names = {pid: processes.command(pid) for pid in server.pids}
    http_pid = min(names) if names else 0
    lines = ["| process | thread | name | CPU % of a core | wake-ups/s |", "|---|---|---|---|---|"]
    cpu = worst = ticks = 0.0
    for tid, thread in sorted(after.items()):
        earlier = before.get(tid, thread)  # A new thread did nothing else yet.
        used = (thread.cpu_seconds - earlier.cpu_seconds) / seconds
        wakeups = (thread.wakeups - earlier.wakeups) / seconds
        cpu += used
        if thread.is_main and thread.pid == http_pid:
            ticks = wakeups
            wakeups = max(0.0, wakeups - UVICORN_TICKS)
        worst = max(worst, wakeups)
        kind = "main" if thread.is_main else str(tid - thread.pid)
        shown = (thread.wakeups - earlier.wakeups) / seconds
        role = "worker" if "spawn_main" in names.get(thread.pid, "") else "service"
        if "resource_tracker" in names.get(thread.pid, ""):
            role = "resource tracker"
        lines.append(f"| {role} | {kind} | {thread.name} | {used * 100:.4f} | {shown:.2f} |")
    changed = sorted(set(before) ^ set(after))
    findings = [
        Finding(
            "CPU of all processes, share of a core", cpu * 100, "%", need="< 0.5", ok=cpu < 0.005
        ),
        Finding(
            "wake-ups of the busiest thread, uvicorn's tick aside",
            worst,
            "/s",
            need="<= 1",
            ok=worst <= 1,
        ),
        Finding("wake-ups of the HTTP thread, uvicorn's tick with it", ticks, "/s"),
        Finding("threads that came or went meanwhile", len(changed)),
    ]
    return Measured(findings, "\n".join(lines))
