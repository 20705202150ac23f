"""Workers that die, hang, lie or run out of memory."""

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator

from loadtests.chaos.bench import Bench
from loadtests.chaos.runners import MESSAGES, RESULTS, SLOW_SECONDS
from loadtests.chaos.scenario import Allowed, NotRunnable, Scenario
from loadtests.drivers.history import Call, ms, only, p95, share, tell
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, observed

TWO = {"BATCHER_REPLICAS": "2"}
QUICK_WATCH = {"BATCHER_HANG_AFTER_MS": "1000"}
# For vectors: a runner that may be for anything else too is not to blame for having none.
DRILLED = {"BATCHER_RUNNER": "loadtests.chaos.runners:Drilled", "BATCHER_TASK": "embed"}
WATCH_SECONDS = 1.0  # QUICK_WATCH's.
LIES = (*RESULTS, *MESSAGES[:2])  # Each a wrong answer of the runner, or of the worker.
RESTART_SECONDS = 4.0  # To kill, reap and start a worker on a busy machine.


def is_drill(text: str) -> bool:
    return text.startswith("fault:")


def seeded(bench: Bench, drill: str, every: int) -> Iterator[str]:
    """Good texts with one `fault:DRILL` in so many."""
    for number in itertools.count(1):
        yield bench.text(f"fault:{drill}") if number % every == every // 2 else bench.text()


def _split(calls: list[Call]) -> tuple[list[Call], list[Call]]:
    """The drills, and the others."""
    drills = [call for call in calls if is_drill(call.text)]
    return drills, [call for call in calls if not is_drill(call.text)]


def busy_worker(bench: Bench) -> int:
    """The pid of a worker with a batch aboard, a moment ago."""
    found: list[int] = []

    def look() -> bool:
        replicas = bench.stats()["replicas"]
        up = [replica for replica in replicas if replica["state"] == "up" and replica["busy"]]
        found[:] = [int(replica["facts"]["pid"]) for replica in up]
        return bool(found)

    bench.wait_until("a busy worker", look, 20.0)
    return found[0]


def _killed_idle(bench: Bench) -> Finding:
    before = bench.restarts()
    bench.kill(bench.worker_pids()[0])
    first = bench.post()
    good = first.kind == "ok" or (first.status == 503 and "retry-after" in first.headers)
    return observed(
        good and bench.restarts() == before + 1,
        f"the next request: {first.outcome} after {first.latency:.2f} s;"
        f" {bench.restarts() - before} restart",
    )


def _killed_busy(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.5, timeout=30.0) as load:
        for _ in range(2):
            time.sleep(2.0)
            bench.kill(busy_worker(bench))
        time.sleep(2.0)
    slowest = max(call.latency for call in load.calls)
    return observed(
        only(load.calls, 200) and bench.restarts() == before + 2,
        f"killed twice with a batch aboard: {tell(load.calls)}, the slowest {slowest:.2f} s",
    )


def _killed_again_and_again(bench: Bench) -> Finding:
    kills = 0
    with bench.load(bench.capacity * 0.3, timeout=5.0) as load:
        for _ in range(8):
            time.sleep(2.0)
            if pid := bench.worker_pids()[0]:
                bench.kill(pid)
                kills += 1
    return observed(
        only(load.calls, 200, 503) and share(load.calls, 200) > 0.8,
        f"{kills} kills in 16 s: {tell(load.calls)}",
    )


def _poison(bench: Bench) -> Finding:
    before = bench.restarts()
    poison = bench.text("fault:exit")
    with bench.load(bench.capacity * 0.3) as load:
        time.sleep(0.5)
        culprit = bench.post(poison, timeout=20.0)
        crashes = bench.restarts() - before
        bench.injections.acknowledge("exit", crashes)
        again = bench.post(poison)
        time.sleep(1.0)
    good = culprit.status == 500 and crashes <= 3 and only(load.calls, 200)
    good &= again.status == 500 and again.latency < 0.5 and bench.restarts() - before == crashes
    document = culprit.document
    code = document.get("code") if isinstance(document, dict) else None
    return observed(
        good,
        f"culprit {culprit.outcome} ({code}) after {crashes} crashes; sent again {again.outcome} in"
        f" {ms(again.latency)}, {bench.restarts() - before - crashes} further crashes;"
        f" neighbours {tell(load.calls)}",
    )


def _stopped(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.3) as load:
        time.sleep(1.0)
        bench.kill(busy_worker(bench), signal.SIGSTOP)
        took = bench.wait_until("restart", lambda: bench.restarts() > before, 10.0)
        time.sleep(2.0)
    reasons = [dict(replica["restarts"]) for replica in bench.stats()["replicas"]]
    return observed(
        only(load.calls, 200) and took <= WATCH_SECONDS + 1.5,
        f"noticed in {took:.2f} s ({reasons}); {tell(load.calls)}, slowest"
        f" {max(call.latency for call in load.calls):.2f} s",
    )


def _continued(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.3) as load:
        time.sleep(0.5)
        pid = busy_worker(bench)
        bench.kill(pid, signal.SIGSTOP)
        time.sleep(WATCH_SECONDS * 0.4)  # In time: its answer comes late, and is the answer.
        bench.kill(pid, signal.SIGCONT)
        time.sleep(1.0)
        spared = bench.restarts() == before
        pid = busy_worker(bench)
        bench.kill(pid, signal.SIGSTOP)
        bench.wait_until("restart", lambda: bench.restarts() > before, 10.0)
        gone = False
        try:
            bench.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            gone = True
        time.sleep(1.5)
    return observed(
        only(load.calls, 200) and spared,
        f"continued in time: {'not ' if spared else ''}replaced; continued when declared dead: it"
        f" {'was gone' if gone else 'was there'}; {tell(load.calls)}",
    )


def _slower(bench: Bench) -> Finding:
    with bench.load(bench.capacity * 0.5, timeout=2.0) as load:
        time.sleep(1.0)
        bench.post(bench.text("fault:slow"))
        time.sleep(SLOW_SECONDS)
        ended = now()
        time.sleep(5.0)
    last = [call for call in load.calls if call.scheduled > ended + 3.0]
    good = only(load.calls, 200, 429, 503, 504) and only(last, 200)
    return observed(
        good,
        f"ten times slower for {SLOW_SECONDS:g} s: {tell(load.calls)}; from 3 s after it"
        f" {tell(last)}, p95 {ms(p95(last))}",
    )


def _out_of_memory(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.8, texts=seeded(bench, "oom", 10)) as load:
        time.sleep(4.0)
    never = bench.post(bench.text("fault:no-memory"))
    splits = bench.metrics().get("batcher_batches_total", reason="split")
    bench.injections.acknowledge("oom", int(splits))  # Of which the service saw the effect.
    good = only(load.calls, 200) and never.status == 500 and bench.restarts() == before
    return observed(
        good,
        f"too big a batch: {tell(load.calls)}; one that never fits: {never.outcome};"
        f" {splits:g} runs of parts, {bench.restarts() - before} restarts",
    )


def _sticky(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.3) as load:
        time.sleep(0.5)
        culprit = bench.post(bench.text("fault:sticky"))
        time.sleep(3.0)
    good = culprit.status == 500 and only(load.calls, 200) and bench.restarts() > before
    return observed(
        good,
        f"culprit {culprit.outcome}; neighbours {tell(load.calls)};"
        f" {bench.restarts() - before} restarts",
    )


def _raises(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.6, texts=seeded(bench, "raise", 25)) as load:
        time.sleep(4.0)
    culprits, others = _split(load.calls)
    bench.injections.acknowledge("raise", sum(call.status == 500 for call in culprits))
    good = only(culprits, 500) and only(others, 200) and bench.restarts() == before
    return observed(
        good,
        f"culprits {tell(culprits)}; others {tell(others)}; {bench.restarts() - before} restarts",
    )


def _lies(bench: Bench) -> Finding:
    told, good = [], True
    with bench.load(bench.capacity * 0.3, timeout=15.0) as load:
        for drill in LIES:
            call = bench.post(bench.text(f"fault:{drill}"), timeout=15.0)
            # With nobody else aboard a broken frame may be retried alone, and still be broken.
            good &= call.status == 500
            told.append(f"{drill}: {call.outcome}")
    return observed(good and only(load.calls, 200), f"{', '.join(told)}; others {tell(load.calls)}")


def _cannot_start(bench: Bench) -> Finding:
    told = []
    with bench.injections.starts_blocked():
        bench.kill(bench.worker_pids()[0])
        bench.wait_until("not ready", lambda: not bench.is_ready(), 3.0)
        began = now()
        refused: list[Call] = []

        def breaker_opens() -> bool:
            refused.append(bench.post(timeout=3.0))
            return refused[-1].status == 503

        bench.wait_until("503 for new work", breaker_opens, 15.0)
        opened = now() - began
        fast = bench.post(timeout=3.0)
        status, body = bench.get("/health/ready")
        live = bench.get("/health/live")[0]
        told.append(
            f"{tell(refused)} until the breaker opened after {opened:.1f} s, then {fast.outcome} in"
            f" {ms(fast.latency)}; ready {status}, live {live}"
        )
        good = fast.status == 503 and fast.latency < 0.2 and status == 503 and live == 200
        good &= b"reason" in body and all(call.status in (503, 504) for call in refused)
    back = bench.wait_until("ready again", bench.is_ready, 35.0)
    return observed(good, f"{told[0]}; ready {back:.1f} s after the cause was gone")


def _all_dead(bench: Bench) -> Finding:
    with bench.load(bench.capacity) as load:
        time.sleep(1.0)
        for pid in bench.worker_pids():
            bench.kill(pid)
        time.sleep(4.0)
    slowest = max(call.latency for call in load.calls)
    return observed(
        only(load.calls, 200, 429, 503) and share(load.calls, 200) > 0.8,
        f"{tell(load.calls)}, slowest {slowest:.2f} s",
    )


def _flapping(bench: Bench) -> Finding:
    kills = 0
    with bench.load(bench.capacity * 0.5) as load:
        for _ in range(24):
            time.sleep(0.3)
            if pid := bench.worker_pids()[0]:
                with contextlib.suppress(ProcessLookupError):  # It has died of the kill before.
                    bench.kill(pid)
                    kills += 1
    return observed(
        only(load.calls, 200),
        f"worker 0 killed {kills} times in 7 s: {tell(load.calls)}, p95 {ms(p95(load.calls))}",
    )


def _thread_dies(bench: Bench) -> Finding:
    with bench.load(bench.capacity * 0.3, timeout=3.0) as load:
        time.sleep(1.0)
        bench.kill(bench.pid, signal.SIGUSR1)
        began = now()
        code = bench.server.process.wait(10.0)
        took = now() - began
    good = code == 70 and took <= 3.0
    return observed(
        good, f"the service ended with status {code} in {took:.2f} s; {tell(load.calls)}"
    )


def _twice(bench: Bench) -> Finding:
    before = bench.restarts()
    with bench.load(bench.capacity * 0.6) as load:
        time.sleep(0.5)
        bench.post(bench.text("fault:twice"))
        time.sleep(4.0)
    return observed(
        only(load.calls, 200) and bench.restarts() == before,
        f"every reply of 3 s came twice: {tell(load.calls)}; {bench.restarts() - before} restarts",
    )


SCENARIOS: tuple[Scenario | NotRunnable, ...] = (
    Scenario(
        "W1",
        "kill -9 of the idle worker",
        "the next request waits for the new one (200), or is told when to come back (503)",
        _killed_idle,
        real=True,
        injects={"SIGKILL": 1},
    ),
    Scenario(
        "W2",
        "kill -9 of the worker with a batch aboard, twice, at 50 % load",
        "every request is answered 200, once",
        _killed_busy,
        real=True,
        injects={"SIGKILL": 2},
    ),
    Scenario(
        "W3",
        "kill -9 of the worker every 2 s, eight times, at 30 % load",
        "nothing is lost or doubled: 200, or 503 at once",
        _killed_again_and_again,
        injects={"SIGKILL": 4},
        timed=True,
    ),
    Scenario(
        "W4",
        "an input that crashes its worker each time, two replicas, at 30 % load",
        "500 for it after at most three crashes, then at once; 200 for all others",
        _poison,
        TWO,
        Allowed(failing=is_drill),
        injects={"exit": 1},
    ),
    Scenario(
        "W5",
        "SIGSTOP of the worker with a batch aboard (a hang; watchdog 1 s)",
        "noticed within 2.5 s; every request is answered 200",
        _stopped,
        QUICK_WATCH,
        injects={"SIGSTOP": 1},
        timed=True,
    ),
    Scenario(
        "W6",
        "SIGCONT before the watchdog's time is over, and after the worker was declared dead",
        "spared the first time; no answer twice or to the wrong caller",
        _continued,
        QUICK_WATCH,
        injects={"SIGSTOP": 2, "SIGCONT": 1},
        timed=True,
    ),
    Scenario(
        "W7",
        "the model becomes ten times slower for 3 s, at 50 % load",
        "200, 429, 503 or 504, no avalanche: all 200 from 3 s after it",
        _slower,
        DRILLED,
        injects={"slow": 1},
        timed=True,
    ),
    Scenario(
        "W8",
        "out of memory in batches of five and more; and one input that never fits",
        "200 for all after smaller batches; 500 for the one; no restart",
        _out_of_memory,
        DRILLED,
        Allowed(failing=lambda text: text.startswith("fault:no-memory")),
        injects={"oom": 1, "no-memory": 1},
    ),
    Scenario(
        "W9",
        "a device error after which every batch of that process raises",
        "the worker is replaced; 500 for the culprit, 200 for all others",
        _sticky,
        DRILLED,
        Allowed(failing=is_drill),
        injects={"sticky": 1},
    ),
    Scenario(
        "W10",
        "an exception in the model for one input in 25, at 60 % load",
        "500 for each of them, 200 for all others; no restart",
        _raises,
        {},
        Allowed(failing=is_drill),
        injects={"raise": 1},
    ),
    Scenario(
        "W11",
        "a runner that returns too few, too many, ragged or no results; a garbled and a cut frame",
        "500 for the culprit, 200 for all others",
        _lies,
        DRILLED,
        Allowed(failing=is_drill),
        injects=dict.fromkeys(LIES, 1),
    ),
    NotRunnable(
        "W12",
        "a worker that leaks memory until a limit",
        "the service sets no limit on a worker's memory: its container does, and the kernel's kill"
        " is the signal 9 of W2",
    ),
    Scenario(
        "W13",
        "the worker dies and no new one can start, until the cause is gone",
        "ready 503 with a reason, alive 200; new work gets 503 at once when the breaker is open;"
        " ready again by itself",
        _cannot_start,
        DRILLED,
        recovery=35.0,
        injects={"SIGKILL": 1, "no-start": 1},
    ),
    Scenario(
        "W14",
        "kill -9 of both workers at once, at 50 % load",
        "200 for at least 80 %, the rest 429 or 503",
        _all_dead,
        TWO,
        injects={"SIGKILL": 2},
        timed=True,
    ),
    Scenario(
        "W15",
        "one of two workers is killed as often as it comes up, for 7 s",
        "the other one answers everything",
        _flapping,
        TWO,
        recovery=35.0,
        injects={"SIGKILL": 3},
    ),
    Scenario(
        "W16",
        "the batching thread dies of a bug",
        "no silent stall: the service ends with status 70 within 3 s",
        _thread_dies,
        {},
        Allowed(unknown=True, restarts=True),
        drill="thread-dies",
        injects={"thread-dies": 1},
    ),
    Scenario(
        "W17",
        "every reply of a worker comes twice, for 3 s",
        "the second is ignored: 200 for all, each its own answer; no restart",
        _twice,
        DRILLED,
        injects={"twice": 2},
    ),
)
