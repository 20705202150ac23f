"""The worker is lost under load: killed from outside, or by an input, or it stops answering."""

import argparse
import signal
import time

from loadtests.chaos.bench import Bench
from loadtests.chaos.bystanders import judged, patience
from loadtests.chaos.culprits import AT_ONCE
from loadtests.chaos.worker import busy_worker
from loadtests.drivers.history import Call, between, p95
from loadtests.reports.finding import Finding, at_most, exactly
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Variant, service
from loadtests.theory.queueing import Accelerator

ACCELERATOR = Accelerator(fixed=0.040, each=0.0025, limit=64)  # 320/s.
KILL_LOAD, POISON_LOAD = 0.7, 0.5
SPACING = 3.0  # Seconds from one kill to the next.
SPARE_TRIES = 1.2  # A kill may meet the moment between two batches.
BACK_SECONDS = 30.0
DEATHS = 3  # That one input may cause.
HANG_AFTER = 1.0
NOTICE_SECONDS = 0.3  # To kill, reap and count a worker, and to be asked about it.
MIDDLE = 0.5  # Into HANG_AFTER: by then the batch that hangs is the one that runs.


def kill(bench: Bench, args: argparse.Namespace) -> list[Finding]:
    bench.start(_variant("kill"))
    bench.begin()
    before, kills, aboard, downs = bench.metrics(), list[float](), 0, list[float]()
    with bench.load(KILL_LOAD * ACCELERATOR.capacity, timeout=30.0) as load:
        time.sleep(SPACING)
        while aboard < args.kills and len(kills) < SPARE_TRIES * args.kills:
            retried, restarts = _retried(bench), bench.restarts()
            bench.kill(busy_worker(bench))
            kills.append(at := time.monotonic())
            _await_restart(bench, restarts)
            downs.append(time.monotonic() - at)
            time.sleep(max(0.0, at + SPACING - time.monotonic()))
            aboard += _retried(bench) > retried
            if not len(kills) % 10:
                print(f"kill: {len(kills)}, {aboard} with a batch aboard", flush=True)
    near = [call for at in kills for call in between(load.calls, at - 0.5, at + 0.5)]
    after = [call for at in kills for call in between(load.calls, at, at + 1.0)]
    retried = _retried(bench)
    return [
        *judged(bench, "kill", before),
        Finding("kill: kills", len(kills)),
        exactly("kill: of them with a batch aboard", aboard, args.kills),
        exactly("kill: worker restarts", bench.restarts(), len(kills)),
        Finding("kill: requests run again", retried),
        Finding("kill: without a worker, at most", max(downs) * 1e3, "ms"),
        Finding("kill: p95 of all", p95(load.calls) * 1e3, "ms"),
        Finding("kill: p95 of those due within 0.5 s of a kill", p95(near) * 1e3, "ms"),
        Finding("kill: p95 of those due in the second after", p95(after) * 1e3, "ms"),
        Finding("kill: slowest", max(call.latency for call in load.calls) * 1e3, "ms"),
    ]


def poison(bench: Bench, args: argparse.Namespace) -> list[Finding]:
    bench.start(_variant("poison", hang_after_ms=HANG_AFTER * 1e3))
    bench.begin()
    before, deaths, late = bench.metrics(), list[int](), dict[str, list[float]]()
    culprits: list[Call] = []
    with bench.load(POISON_LOAD * ACCELERATOR.capacity, timeout=30.0):
        time.sleep(1.0)
        for drill, times in (("exit", args.poisons), ("hang", args.hangs)):
            for _ in range(times):
                restarts = bench.restarts()
                call, took = _poisoned(bench, drill)
                culprits.append(call)
                deaths.append(bench.restarts() - restarts)
                if drill == "hang":
                    late.setdefault("fault:hang", []).append(took)
                print(f"poison: {drill}, {call.outcome}, {deaths[-1]} workers lost", flush=True)
                _settle(bench)
        gone = 0
        for _ in range(args.hangs):
            pid, took = _stopped(bench)
            late.setdefault("SIGSTOP", []).append(took)
            gone += _is_gone(bench, pid)
            _settle(bench)
    codes = [_code(call.document) for call in culprits]
    found = judged(bench, "poison", before)
    found.append(
        exactly("poison: answered poison_request", codes.count("poison_request"), len(culprits))
    )
    found.append(at_most("poison: workers lost to one input, at most", max(deaths), DEATHS))
    for what, shares in late.items():
        found.append(at_most(f"poison: {what}: noticed, of its bound", max(shares), 1.0, "x"))
    found.append(exactly("poison: stopped worker gone before SIGCONT", gone, args.hangs))
    return found


def _poisoned(bench: Bench, drill: str) -> tuple[Call, float]:
    """The culprit's call, and when its first hang was noticed, as a share of the bound."""
    hangs, share = _hangs(bench), 0.0
    batch_before = ACCELERATOR.time(max(1, bench.stats()["running"]))
    with bench.load(AT_ONCE, texts=[bench.text(f"fault:{drill}")], timeout=25.0) as load:
        bench.wait_until("sent", lambda: bool(load.calls), 5.0)
        if drill == "hang":
            time.sleep(MIDDLE)
            bound = patience(ACCELERATOR.time(bench.stats()["running"]), HANG_AFTER)
            bench.wait_until("hang", lambda: _hangs(bench) > hangs, BACK_SECONDS)
            took = time.monotonic() - load.calls[0].sent
            share = took / (batch_before + bound + NOTICE_SECONDS)
            print(f"poison: fault:hang noticed {took:.2f} s after it was sent", flush=True)
    return load.calls[0], share


def _stopped(bench: Bench) -> tuple[int, float]:
    """The pid of a worker stopped with a batch aboard; when that was noticed, as above."""
    hangs, pid = _hangs(bench), busy_worker(bench)
    began = time.monotonic()
    bench.kill(pid, signal.SIGSTOP)
    bound = patience(ACCELERATOR.time(max(1, bench.stats()["running"])), HANG_AFTER)
    bench.wait_until("hang", lambda: _hangs(bench) > hangs, BACK_SECONDS)
    took = time.monotonic() - began
    print(f"poison: SIGSTOP noticed in {took:.2f} s, bound {bound:.2f} s", flush=True)
    return pid, took / (bound + NOTICE_SECONDS)


def _code(document: object) -> object:
    """Of an error, in whichever envelope."""
    if not isinstance(document, dict):
        return None
    inner = document.get("error")
    return inner.get("code") if isinstance(inner, dict) else document.get("code")


def _await_restart(bench: Bench, before: int) -> None:
    """Until one more was lost than before, and the next one is up."""
    bench.wait_until(
        "restart", lambda: bench.restarts() > before and all(bench.worker_pids()), BACK_SECONDS
    )


def _is_gone(bench: Bench, pid: int) -> bool:
    try:
        bench.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return pid not in processes.tree(bench.pid)
    return False


def _settle(bench: Bench) -> None:
    """The backlog of a fault is worked off before the next one."""

    def calm() -> bool:
        stats = bench.stats()
        is_up: bool = stats["replicas"][0]["state"] == "up"
        return is_up and stats["waiting"] < ACCELERATOR.limit // 2

    bench.wait_until("calm again", calm, BACK_SECONDS)
    time.sleep(1.0)


def _variant(name: str, **settings: object) -> Variant:
    return service(name, runner="simulated", sim_fixed_ms=40, sim_per_item_ms=2.5, **settings)


def _retried(bench: Bench) -> int:
    return int(bench.metrics().get("batcher_inputs_retried_total"))


def _hangs(bench: Bench) -> int:
    return int(bench.metrics().get("batcher_worker_restarts_total", reason="hang"))
