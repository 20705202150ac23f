"""The machine and the HTTP process: no descriptors, no room, no port, a clock that jumps."""

import contextlib
import signal
import socket
import tempfile
import time
from pathlib import Path

from loadtests.chaos import resources
from loadtests.chaos.bench import Bench
from loadtests.chaos.exiting_service import exiting_service
from loadtests.chaos.sabotage import BLOCKED_SECONDS, DESCRIPTORS
from loadtests.chaos.scenario import NotRunnable, Scenario
from loadtests.drivers.history import ms, only, p95, tell
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, observed
from loadtests.servers import procfs as processes

MODEL_SECONDS = 10.0  # Of a start that fails: with the imports of a busy machine.


def _no_descriptors(bench: Bench) -> Finding:
    used, began = processes.cpu_seconds([bench.pid]), now()
    with contextlib.ExitStack() as stack:
        for _ in range(3 * DESCRIPTORS):
            stack.enter_context(contextlib.closing(bench.socket(5.0)))
        time.sleep(3.0)
        share = (processes.cpu_seconds([bench.pid]) - used) / (now() - began)
        held = resources.usage(bench.pid).descriptors
    recovered = bench.wait_until("an answer", bench.is_ready, 10.0)
    with bench.load(bench.capacity * 0.1) as after:
        time.sleep(1.0)
    good = share < 0.5 and held <= DESCRIPTORS and only(after.calls, 200)
    return observed(
        good,
        f"{3 * DESCRIPTORS} connections to a process that may have {DESCRIPTORS} descriptors"
        f" ({held} in use): {share:.0%} of a core; {recovered:.2f} s after they left"
        f" it answers, {tell(after.calls)}",
    )


def _no_room(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.5) as load:
        time.sleep(1.0)
        bench.kill(bench.worker_pids()[0])  # So that there is much to write to the log.
        time.sleep(2.5)
    good = only(load.calls, 200) and bench.restarts() == before + 1
    return observed(good, f"every write to the log fails, a worker is killed: {tell(load.calls)}")


def _clock_jumps(bench: Bench) -> Finding:
    dates = []
    steps = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR2, signal.SIGUSR1)
    with bench.load(bench.capacity * 0.5, timeout=3.0) as load:
        for step in steps:
            time.sleep(0.8)
            bench.kill(bench.pid, step)
            time.sleep(1.2)  # The Date header is renewed once a second.
            dates.append(bench.post().headers.get("date", "")[17:22])
    moved = len(set(dates)) > 1
    return observed(
        moved and only(load.calls, 200),
        f"Date said {', '.join(dates)}; {tell(load.calls)}, p95 {ms(p95(load.calls))}",
    )


def _no_shared_memory(bench: Bench) -> Finding:
    most = 0
    with bench.load(bench.capacity * 0.7) as load:
        for _ in range(5):
            time.sleep(0.4)
            most = max(most, resources.read(bench.pid).shared)
    good = only(load.calls, 200) and most == 0
    return observed(
        good,
        f"no process of the service has a file of /dev/shm open or mapped ({most} found in 5"
        f" looks under load), so a full one cannot hurt it; {tell(load.calls)}",
    )


def _bad_starts(bench: Bench) -> Finding:
    settings = dict(bench.variant.settings)
    with socket.socket() as taken, tempfile.TemporaryDirectory() as empty:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = {
            "port in use": (settings | {"BATCHER_PORT": port}, 4),
            "no such model": ({"BATCHER_MODEL": str(Path(empty, "none"))}, 3),
            "an empty model folder": ({"BATCHER_MODEL": empty}, 3),
            "a runner that is none": ({"BATCHER_RUNNER": "no.such.module:Runner"}, 3),
            "a value out of range": (settings | {"BATCHER_MAX_BATCH_SIZE": "0"}, 2),
            "an unknown setting": (settings | {"BATCHER_MAX_BATCH": "8"}, 2),
            "a device that is not there": ({"BATCHER_DEVICE": "cuda:9"}, 3),
        }
        told, good = [], True
        for what, (environment, expected) in cases.items():
            with exiting_service({"HF_HUB_OFFLINE": "1"} | environment) as process:
                began = now()
                code = process.wait(60.0)
                took = now() - began
                good &= code == expected and took <= MODEL_SECONDS and bool(process.said())
                bench.injections.acknowledge("bad start")
                told.append(f"{what}: status {code} in {took:.1f} s")
    return observed(good, "; ".join(told))


def _blocked(bench: Bench) -> Finding:
    with bench.load(bench.capacity * 0.5, timeout=6.0) as load:
        time.sleep(1.0)
        bench.kill(bench.pid, signal.SIGUSR1)
        time.sleep(BLOCKED_SECONDS + 3.0)
    last = load.calls[-100:]
    good = only(load.calls, 200, 429) and only(last, 200)
    return observed(
        good,
        f"the loop stood still for {BLOCKED_SECONDS:g} s: {tell(load.calls)}, slowest"
        f" {max(call.latency for call in load.calls):.2f} s; the last 100: p95 {ms(p95(last))}",
    )


SCENARIOS: tuple[Scenario | NotRunnable, ...] = (
    NotRunnable(
        "H1",
        "kill -9 of one of several HTTP processes",
        "the service runs one HTTP process; its death is S4",
    ),
    Scenario(
        "H2",
        "three times more connections than the process may have descriptors",
        "accepts no more and does not spin (under 50 % of a core); serves again when they leave",
        _no_descriptors,
        drill="few-descriptors",
        injects={"few-descriptors": 1, "request": 1},
        recovery=15.0,
        timed=True,
    ),
    NotRunnable(
        "H3",
        "the memory limit of a container is hit",
        "control groups are the operator's; the kernel's kill of a worker is the signal 9 of W2",
    ),
    Scenario(
        "H4",
        "every write to the log fails for want of room; no folder for temporary files",
        "no request notices: nothing on their way is written to a disk",
        _no_room,
        drill="no-room",
        injects={"no-room": 1, "SIGKILL": 1},
    ),
    Scenario(
        "H5",
        "the clock jumps an hour ahead and an hour back",
        "no request notices",
        _clock_jumps,
        drill="clock",
        injects={"clock": 4},
    ),
    Scenario(
        "H6",
        "/dev/shm is full",
        "nothing of the service uses it",
        _no_shared_memory,
    ),
    Scenario(
        "H7",
        "bad starts: port in use, no model, no such runner, bad settings, no such device",
        "its own exit status for each, and a line that says why, within 10 s",
        _bad_starts,
        injects={"bad start": 7},
        timed=True,
    ),
    Scenario(
        "H8",
        "the event loop stands still for 2 s at 50 % load",
        "every request is answered; as before when the backlog is worked off",
        _blocked,
        drill="blocks",
        injects={"blocks": 1},
    ),
)
