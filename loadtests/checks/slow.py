"""Do slow clients cost the others anything? slowhttptest: slow headers, slow bodies, slow reading.

Each attack holds its connections beside normal load from the open-loop referee, alternating with
the same load alone. A connection on which nothing whole comes must be closed at the deadline.
"""

import argparse
import csv
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from loadtests.drivers import arrivals, workloads
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, running, service

TITLE = "Slow clients beside normal ones"
DEADLINE = 10.0  # seconds, for a head and for a body
SPARE = 3.0  # seconds: to open so many connections, and slowhttptest's own clock
SLOWER = 1.10

# Of slowhttptest. A piece every 5 s; told to go on for far longer than the deadline.
ATTACKS = {
    "slow headers": ["-H", "-u", "{url}/embed", "-t", "POST"],
    "slow body": ["-B", "-u", "{url}/embed", "-t", "POST", "-s", "8192"],
    "slow read": ["-X", "-u", "{url}/docs", "-w", "1", "-y", "2", "-n", "5", "-z", "1", "-k", "3"],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=count_between(10, 10_000), default=1000)
    parser.add_argument("--rate", type=number_between(1, 5000), default=100.0, help="per second")
    parser.add_argument("--seconds", type=number_between(5, 120), default=16.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    program = shutil.which("slowhttptest")
    if program is None:
        raise RuntimeError("slowhttptest is not installed here (apt-get install slowhttptest)")
    findings, notes = [], []
    with running(service("simulated", runner="simulated"), args.cpus) as server:
        for name, options in ATTACKS.items():
            p95: dict[str, list[float]] = {"alone": [], "attacked": []}
            open_for, errors = 0.0, 0
            for repeat in range(args.repeats):
                for kind, times in p95.items():
                    with tempfile.TemporaryDirectory() as folder:
                        attack = None
                        if kind == "attacked":
                            attack = _attack(program, options, server, args, Path(folder))
                        run = _normal(server, args, repeat)
                        if attack is not None:
                            open_for = max(open_for, _end(attack, Path(folder)))
                    summary = run.summary(skip=1.0)
                    errors += sum(outcome.status != "200" for outcome in run.outcomes)
                    times.append(summary.p95_ms)
                    record.raw(f"{name.replace(' ', '-')}-{kind}-{repeat}", run)
                    print(f"{name}, {kind}: {summary}", flush=True)
            ratio = median(p95["attacked"]) / median(p95["alone"])
            closed = 0 < open_for <= DEADLINE + SPARE
            findings += [
                Finding(
                    f"{name}: p95 of normal callers",
                    median(p95["attacked"]),
                    "ms",
                    ideal=median(p95["alone"]),
                    need=f"<= {SLOWER}",
                    ok=ratio <= SLOWER,
                ),
                Finding(f"{name}: normal requests not answered", errors, need="0", ok=not errors),
                Finding(
                    f"{name}: until the last of {args.connections} was closed",
                    open_for,
                    "s",
                    need=f"<= {DEADLINE + SPARE:g}" if name != "slow read" else "",
                    ok=closed if name != "slow read" else None,
                ),
            ]
            notes += [f"- {name}, {kind}: p95 {spread(times)} ms" for kind, times in p95.items()]
            time.sleep(1.0)
    return Measured(findings, "\n".join(notes))


def _attack(
    program: str, options: list[str], server: Server, args: argparse.Namespace, folder: Path
) -> subprocess.Popen[bytes]:
    url = server.target.url
    common = ["-c", str(args.connections), "-r", str(args.connections), "-i", "5", "-p", "3"]
    common += ["-l", str(int(args.seconds)), "-g", "-o", str(folder / "slow")]
    return subprocess.Popen(
        [program, *(option.format(url=url) for option in options), *common],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _end(attack: subprocess.Popen[bytes], folder: Path) -> float:
    """The last second of the attack in which a connection of it was open."""
    try:
        attack.wait(20.0)
    except subprocess.TimeoutExpired:
        attack.kill()
        attack.wait(10.0)
    with (folder / "slow.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    return max((float(row["Seconds"]) for row in rows if int(row["Connected"])), default=0.0)


def _normal(server: Server, args: argparse.Namespace, seed: int) -> Run:
    texts = workloads.texts("short", workloads.built_in_sentences(), seed=1)
    requests = [server.target.post("/embed", workloads.embed_body(text)) for text in texts]
    times = arrivals.poisson(args.rate, args.seconds, seed)
    return referee(server.target, requests, times, args.seconds)
