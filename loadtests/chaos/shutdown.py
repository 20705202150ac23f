"""Signals: draining, impatience, and what is left behind."""

import signal
import time
from collections.abc import Callable

from loadtests.chaos.bench import Bench
from loadtests.chaos.exiting_service import exiting_service
from loadtests.chaos.scenario import Allowed, NotRunnable, Scenario
from loadtests.drivers.history import between, only, tell
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, observed
from loadtests.servers import procfs as processes

DRAIN_DELAY = {"BATCHER_DRAIN_DELAY_MS": "1000"}
IMPATIENT = {"BATCHER_DRAIN_TIMEOUT_MS": "1000", "BATCHER_DRAIN_DELAY_MS": "200"}
DELAY_SECONDS = 1.0
ENDING = Allowed(unknown=True, restarts=True)


def _drained(bench: Bench) -> Finding:
    tree = bench.server.pids
    with bench.load(bench.capacity * 0.7, timeout=5.0) as load:
        time.sleep(2.0)
        signalled = now()
        bench.server.terminate()
        unready = bench.wait_until("ready 503", lambda: _status(bench) != 200, 1.0)
        code = bench.server.process.wait(15.0)
        ended = now()
        time.sleep(0.3)
    kept = between(load.calls, 0, signalled + 0.9 * DELAY_SECONDS)
    late = between(load.calls, signalled + 0.9 * DELAY_SECONDS)
    # What comes when the door is shut is refused by the kernel, or told so; nothing is cut off.
    polite = all(call.outcome in ("200", "503", "refused") for call in late)
    good = only(kept, 200) and polite and code == 0 and _all_gone(bench, tree)
    return observed(
        good,
        f"ready said no after {unready * 1e3:.0f} ms; sent before the door shut {tell(kept)}; after"
        f" it {tell(late)}; status {code} after {ended - signalled:.2f} s; {len(_left(tree))}"
        " processes left",
    )


def _too_long(bench: Bench) -> Finding:
    tree = bench.server.pids
    with bench.load(20, texts=iter([bench.text("fault:hang")]), timeout=20.0) as load:
        bench.wait_until("the hang to run", lambda: bench.stats()["running"] == 1, 5.0)
        bench.injections.acknowledge("hang")
        began = now()
        bench.server.terminate()
        code = bench.server.process.wait(15.0)
        took = now() - began
    good = only(load.calls, 503, 504) and took <= 4.0 and _all_gone(bench, tree)
    return observed(
        good,
        f"the request: {tell(load.calls)}; status {code} after {took:.2f} s with 1.2 s of grace;"
        f" {len(_left(tree))} processes left",
    )


def _impatient(bench: Bench) -> Finding:
    told, good = [], True

    def again(first: signal.Signals, second: signal.Signals) -> None:
        nonlocal good
        tree = bench.server.pids
        with bench.load(bench.capacity * 0.7, timeout=5.0):
            time.sleep(0.5)
            began = now()
            bench.kill(bench.pid, first)
            time.sleep(0.3)
            if bench.alive():
                bench.kill(bench.pid, second)
            code = bench.server.process.wait(15.0)
            took = now() - began
        good &= took < 3.0 and _all_gone(bench, tree)
        told.append(f"{first.name} then {second.name}: status {code} in {took:.1f} s")

    again(signal.SIGTERM, signal.SIGTERM)
    bench.restart()
    again(signal.SIGTERM, signal.SIGINT)
    bench.restart()
    worker = bench.worker_pids()[0]
    bench.kill(worker, signal.SIGTERM)
    call = bench.post()
    good &= call.kind == "ok"
    told.append(f"SIGTERM to the worker alone: the next request {call.outcome}")
    with exiting_service(dict(bench.variant.settings)) as process:
        time.sleep(0.4)  # While it imports or starts its worker.
        process.send_signal(signal.SIGTERM)
        began = now()
        code = process.wait(10.0)
        # Python itself has the signal until the service's own handler is there.
        good &= code in (0, -signal.SIGTERM)
        told.append(f"SIGTERM while it starts: status {code} in {now() - began:.1f} s")
    return observed(good, "; ".join(told))


def _parent_killed(bench: Bench) -> Finding:
    tree = bench.server.pids
    with bench.load(bench.capacity * 0.5, timeout=3.0) as load:
        time.sleep(1.0)
        bench.kill(bench.pid)
        bench.server.process.wait(5.0)
        gone = bench.wait_until("the workers to end", _nobody(tree), 5.0)
    return observed(
        gone <= 2.0,
        f"{len(tree) - 1} children gone {gone:.2f} s after their parent; {tell(load.calls)}",
    )


def _nobody(tree: list[int]) -> Callable[[], bool]:
    return lambda: not _left(tree)


def _all_gone(bench: Bench, tree: list[int]) -> bool:
    """Children see the end of their parent, and end themselves: within 2 s."""
    try:
        bench.wait_until("children to end", _nobody(tree), 2.0)
    except TimeoutError:
        return False
    return True


def _left(tree: list[int]) -> list[int]:
    """Of a service that has ended: what still runs. Its orphans are init's to reap."""
    return [pid for pid in tree if processes.tree(pid) and processes.command(pid)]


def _status(bench: Bench) -> int:
    try:
        return bench.get("/health/ready", 1.0)[0]
    except OSError:
        return 0


SCENARIOS: tuple[Scenario | NotRunnable, ...] = (
    Scenario(
        "S1",
        "SIGTERM at 70 % load, through connections that are kept",
        "ready 503 at once; all that comes within the drain delay is answered 200, none cut off;"
        " status 0, nothing left behind",
        _drained,
        DRAIN_DELAY,
        ENDING,
        real=True,
        timed=True,
    ),
    Scenario(
        "S2",
        "SIGTERM with a request aboard that never ends (grace 1.2 s)",
        "503 or 504 to it; the service ends within 4 s, nothing left behind",
        _too_long,
        IMPATIENT,
        ENDING,
        injects={"hang": 1},
    ),
    Scenario(
        "S3",
        "SIGTERM twice; SIGINT while draining; SIGTERM to a worker; SIGTERM while starting",
        "ends within 3 s, nothing left behind; a worker ignores it",
        _impatient,
        DRAIN_DELAY,
        ENDING,
        injects={"SIGTERM": 4, "SIGINT": 1},
        timed=True,
    ),
    Scenario(
        "S4",
        "kill -9 of the service at 50 % load",
        "its workers end within 2 s",
        _parent_killed,
        {},
        ENDING,
        injects={"SIGKILL": 1},
        real=True,
    ),
    NotRunnable(
        "S5",
        "100 reloads of the model under load",
        "the service has no reload: a new"
        " process takes over, and S1 shows that the old one loses nothing",
    ),
    NotRunnable(
        "S6",
        "a reload with a broken model",
        "the service has no reload; a broken model at start is H7",
    ),
)
