"""Does BATCHER_BACKEND=auto pick well? Against each backend that is installed, at one precision.

All servers are up at once and are driven in turn: whichever is not driven is idle. What is compared
are the medians of the rounds' ratios, in which what the machine does for a while is the same above
and below the line.
"""

import argparse
import contextlib
import importlib.util
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, median

from loadtests.drivers import closedloop, workloads
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import OK
from loadtests.drivers.target import count_between, number_between, setting_argument
from loadtests.reports.finding import Finding, Measured, over, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, Variant, running, service

TITLE = "BATCHER_BACKEND=auto against each single backend"
AUTO, EAGER = "auto", "torch eager bfloat16"
SLOWER = 1.05
HALF = 0.5
SKIP = 1.0
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
# What is driven: the callers and the texts. One caller is judged by latency, many by throughput.
ALONE, SHORT, MIXED = "one caller", "64 callers, short", "64 callers, mixed lengths"
WORKLOADS: Mapping[str, tuple[int, str]] = {
    ALONE: (1, "short"),
    SHORT: (64, "short"),
    MIXED: (64, "mixed"),
}
Times = dict[tuple[str, str], list[float]]  # (workload, variant): seconds an answer, each round.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", default="float32", help="of all; default: float32")
    parser.add_argument(
        "--backends", nargs="*", choices=BACKENDS, help="default: all that are installed"
    )
    parser.add_argument("--seconds", type=number_between(1, 60), default=1.5, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 25), default=12)
    parser.add_argument("--only", choices=WORKLOADS, nargs="*", default=list(WORKLOADS))
    parser.add_argument("--set", type=setting_argument, action="append", default=[])


def variants(dtype: str, more: Mapping[str, str]) -> dict[str, Variant]:
    """Every backend by its name here, installed or not."""
    same = {"dtype": dtype, **more}
    eager = ("--port={port}", "--dtype=bfloat16", f"--threads={len(os.sched_getaffinity(0))}")
    return {
        AUTO: service(AUTO, backend="auto", **same),
        "torch": service("torch", backend="torch", **same),
        "torch compiled": service("torch-compiled", backend="torch", compile="on", **same),
        "onnx": service("onnx", backend="onnx", **same),
        "openvino": service("openvino", backend="openvino", **same),
        EAGER: Variant("eager", "loadtests.baselines.unbatched", eager),  # torch as it comes
    }


BACKENDS = tuple(name for name in variants("", {}) if name != AUTO)


def installed(name: str) -> bool:
    return name not in PACKAGES or importlib.util.find_spec(PACKAGES[name]) is not None


def measure(args: argparse.Namespace, record: Record) -> Measured:
    every = variants(args.dtype, dict(args.set))
    wanted = [name for name in args.backends or BACKENDS if args.backends or installed(name)]
    sentences = workloads.load_sentences(args.sentences)
    times: Times = defaultdict(list)
    lines = []
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in (AUTO, *wanted):
            servers[name] = stack.enter_context(running(every[name], args.cpus))
            told = every[name].describe() if name == EAGER else _facts(servers[name])
            lines.append(f"- {name}: {told}")
            print(lines[-1], flush=True)
        for repeat in range(args.repeats):  # many and short: an odd spell is then one of many
            for workload in args.only:
                callers, kind = WORKLOADS[workload]
                texts = workloads.texts(kind, sentences, seed=repeat)
                for name in turned(list(servers), repeat):
                    if name == EAGER and workload != ALONE:
                        continue
                    run = _drive(servers[name], texts, callers, args.seconds)
                    record.raw(f"{every[name].name}-{callers}-{kind}-{repeat}", run)
                    times[workload, name].append(seconds_an_answer(run, callers))
                    print(
                        f"{repeat + 1}/{args.repeats} {workload}, {name}: "
                        f"{times[workload, name][-1] * 1e3:.3f} ms an answer",
                        flush=True,
                    )
    lines += [
        f"- {workload}, {name}: {spread([second * 1e3 for second in seconds])} ms an answer"
        for (workload, name), seconds in times.items()
    ]
    return Measured(judged(times), "\n".join(lines))


def turned(names: list[str], repeat: int) -> list[str]:
    """Each round begins with another, and every second turn goes the other way round: nobody always
    follows the same one."""
    turn, first = divmod(repeat, len(names))
    begun, *rest = names[first:] + names[:first]
    return [begun, *(reversed(rest) if turn % 2 else rest)]


def seconds_an_answer(run: Run, callers: int) -> float:
    """A lone caller's median latency; of many, the mean over the callers (Little's law): it counts
    every answer, where a rate between two moments is off by what share of a batch they cut."""
    failed = [outcome.status for outcome in run.outcomes if outcome.status != OK]
    if failed:
        raise RuntimeError(f"{len(failed)} requests were not answered: {failed[0]}")
    warm = run.begin + min(SKIP, run.seconds / 3)
    latencies = [out.answered - out.sent for out in run.outcomes if out.sent >= warm]
    return median(latencies) if callers == 1 else mean(latencies) / callers


def judged(times: Mapping[tuple[str, str], Sequence[float]]) -> list[Finding]:
    found = []
    for workload in dict.fromkeys(workload for workload, _ in times):
        of = {name: seconds for (what, name), seconds in times.items() if what == workload}
        singles = {name: seconds for name, seconds in of.items() if name not in (AUTO, EAGER)}
        if singles:
            best = min(singles, key=lambda name: median(singles[name]))
            slower = over(of[AUTO], singles[best])
            found.append(
                Finding(
                    f"{workload}: auto over the best, {best}: time an answer",
                    slower,
                    "x",
                    need=f"<= {SLOWER:g}",
                    ok=slower <= SLOWER,
                )
            )
        if EAGER in of:
            share = over(of[AUTO], of[EAGER])
            found.append(
                Finding(
                    f"{workload}: auto over {EAGER}: latency",
                    share,
                    "x",
                    need=f"<= {HALF:g}",
                    ok=share <= HALF,
                )
            )
    return found


def _drive(server: Server, texts: Sequence[str], callers: int, seconds: float) -> Run:
    requests = [server.target.post("/embed", workloads.embed_body(text)) for text in texts]
    return closedloop.drive(server.target, requests, callers, seconds)


def _facts(server: Server) -> str:
    status, body = server.get("/stats")
    if status != 200:
        raise RuntimeError(f"/stats answered {status}")
    facts = json.loads(body)["replicas"][0]["facts"]
    chosen = (
        "backend",
        "shares",
        "backend_ms",
        "dtype",
        "threads",
        "load_seconds",
        "warm_up_seconds",
    )
    return ", ".join(f"{name} {facts[name]}" for name in chosen if name in facts)
