"""More work than there is room for, or none at all."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice, pairwise

from loadtests.chaos import mixed
from loadtests.chaos.bench import Bench
from loadtests.chaos.scenario import Allowed, NotRunnable, Scenario
from loadtests.drivers.background_load import callers
from loadtests.drivers.history import Call, between, ms, only, p95, p99, share, tell
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, observed
from loadtests.servers import procfs as processes

# A short queue, so that overload shows in seconds: 64 requests are 0.32 s of work.
SHORT_QUEUE = {"BATCHER_MAX_QUEUE_SIZE": "64"}
# A token costs: one text of 400 words takes as long as 100 of 4.
BY_LENGTH = {"BATCHER_SIM_PER_TOKEN_US": "100", "BATCHER_SIM_PER_ITEM_MS": "0"}
IDLE_CONNECTIONS = 10_000
HERD = 5_000
IDLE_SECONDS = 10.0
MIX_SECONDS = 30.0
REPEAT_MB = 8.0
BUSY_SECONDS = 0.1  # Of CPU time: a process that has used so much kept a core from others.


def _overload(bench: Bench) -> Finding:
    told, good = [], True
    # A real model shares its cores with the driver: ten times its capacity would measure these.
    for factor in (1.3, 3.0) if bench.real else (1.3, 3.0, 10.0):
        with bench.load(bench.capacity * factor, timeout=2.0, seed=int(factor)) as load:
            time.sleep(5.0)
        goodput = _goodput(load.calls)
        refused, late = p99(load.calls, 429), share(load.calls, 504)
        _acknowledge_overload(bench, load.calls)
        good &= goodput >= 0.9 * bench.capacity and late <= 0.001
        good &= only(load.calls, 200, 429, 504)
        told.append(
            f"{factor:g}x: {goodput:.0f}/s answered of {bench.capacity:.0f}/s,"
            f" 429 in {ms(refused)} (p99), {late:.2%} late"
        )
    return observed(good, "; ".join(told))


def _spike(bench: Bench) -> Finding:
    with bench.load(bench.capacity * 0.5, timeout=5.0) as base:
        time.sleep(2.0)
        with bench.load(bench.capacity * 10, timeout=5.0, seed=2) as spike:
            time.sleep(2.0)
        ended = max(call.scheduled for call in spike.calls)
        time.sleep(3.0)
    _acknowledge_overload(bench, spike.calls)
    began = min(call.scheduled for call in spike.calls)
    before = p95(between(base.calls, 0, began))
    after = p95(between(base.calls, ended + 1.4))
    calm = between(base.calls, ended + 1.4)
    good = only(calm, 200) and after <= 1.5 * before + 0.02
    good &= only([*base.calls, *spike.calls], 200, 429)
    return observed(
        good, f"p95 {ms(before)} before, {ms(after)} from 1.4 s after it; {tell(bench.history)}"
    )


def _idle_connections(bench: Bench) -> Finding:
    rate = bench.capacity * 0.3
    with bench.load(rate) as before:
        time.sleep(3.0)
    opened = asyncio.run(_hold(bench, IDLE_CONNECTIONS))
    bench.injections.acknowledge("connection", opened.count)
    with opened, bench.load(rate, seed=2) as during:
        time.sleep(3.0)
    good = only([*before.calls, *during.calls], 200)
    good &= p95(during.calls) <= 1.1 * p95(before.calls) + 0.02
    return observed(
        good,
        f"{opened.count} connections held; p95 {ms(p95(before.calls))} without,"
        f" {ms(p95(during.calls))} with them; {tell(during.calls)}",
    )


class _Held(contextlib.ExitStack):
    count = 0


async def _hold(bench: Bench, count: int) -> _Held:
    """Connections on which one GET was answered and nothing comes any more."""
    held = _Held()
    for _ in range(count):
        one = bench.socket()
        held.enter_context(contextlib.closing(one))
        held.count += 1
        if held.count % 10 == 0:  # The others never say a word.
            one.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
    return held


def _callers(bench: Bench) -> Finding:
    told, rates, good = [], [], True
    for count in (1, 4, 16, 64, 256):
        calls = callers(bench.target, bench.history, bench.texts(), count, seconds=2.0)
        rates.append(_goodput(calls))
        good &= only(calls, 200)
        told.append(f"{count}: {rates[-1]:.0f}/s")
    good &= all(later >= 0.95 * rate for rate, later in pairwise(rates))
    good &= rates[-1] >= 0.9 * bench.capacity
    return observed(good, f"{', '.join(told)}; {tell(bench.history)}")


def _mix(bench: Bench) -> Finding:
    before = bench.restarts()
    calls = mixed.round_of(bench, MIX_SECONDS, seed=1)
    odd = mixed.unexpected(calls)
    return observed(
        not odd,
        f"{MIX_SECONDS:g} s (--soak is for hours): {tell(calls)};"
        f" {len(odd)} unexpected ({tell(odd)}), {bench.restarts() - before} workers replaced",
    )


def _long_and_short(bench: Bench) -> Finding:
    def long() -> Iterator[str]:
        while True:
            yield bench.text() + " long" * 396

    with bench.load(50, timeout=5.0) as alone:
        time.sleep(3.0)
    with (
        bench.load(50, timeout=5.0, seed=2) as short,
        bench.load(4, texts=long(), timeout=5.0, source="127.0.0.2") as tenant,
    ):
        time.sleep(5.0)
    # A batch that runs is not interrupted: a long text's own 80 ms is what a short one may meet.
    limit = 1.5 * p95(alone.calls) + 0.080
    good = only([*alone.calls, *short.calls, *tenant.calls], 200) and p95(short.calls) <= limit
    return observed(
        good,
        f"short p95 {ms(p95(alone.calls))} alone, {ms(p95(short.calls))} beside long texts"
        f" (limit {ms(limit)}); slowest long text {ms(max(c.latency for c in tenant.calls))}",
    )


def _priorities(bench: Bench) -> Finding:
    rate = bench.capacity * 0.1
    urgent = {"Priority": "u=0"}
    with bench.load(rate, headers=urgent, timeout=5.0) as alone:
        time.sleep(3.0)
    with bench.load(bench.capacity * 5, headers={"Priority": "u=7"}, timeout=5.0) as low:
        time.sleep(0.5)
        with bench.load(rate, headers=urgent, timeout=5.0, seed=2, source="127.0.0.2") as high:
            time.sleep(4.0)
    _acknowledge_overload(bench, low.calls)
    limit = p95(alone.calls) + 0.080 + 0.02
    good = only(high.calls, 200) and p95(high.calls) <= limit and only(low.calls, 200, 429)
    return observed(
        good,
        f"urgent p95 {ms(p95(alone.calls))} alone, {ms(p95(high.calls))} in the flood (limit"
        f" {ms(limit)}), {tell(high.calls)}; flood {tell(low.calls)}",
    )


def _hog(bench: Bench) -> Finding:
    with bench.load(bench.capacity * 5, timeout=5.0, source="127.0.0.2") as hog:
        time.sleep(0.5)
        with contextlib.ExitStack() as stack:
            others = [
                stack.enter_context(
                    bench.load(5, timeout=5.0, seed=number, source=f"127.0.0.{number}")
                )
                for number in range(3, 7)
            ]
            time.sleep(4.0)
    calls = [call for other in others for call in other.calls]
    _acknowledge_overload(bench, hog.calls)
    good = only(calls, 200) and share(hog.calls, 429) > 0.5
    return observed(good, f"the hog {tell(hog.calls)}; four others {tell(calls)}")


def _herd(bench: Bench) -> Finding:
    texts = islice(bench.texts(), HERD)
    with bench.load(1e6, texts=texts, timeout=20.0) as herd:
        bench.wait_until("all were sent", lambda: len(herd.calls) == HERD, 30.0)
    good = only(herd.calls, 200, 429)
    last = max(call.answered for call in herd.calls) - herd.calls[0].sent
    return observed(
        good, f"{HERD} connections at once: {tell(herd.calls)}, the last in {last:.1f} s"
    )


def _starved(bench: Bench) -> Finding:
    script = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    try:
        slowest = 0.0
        with bench.load(bench.capacity * 0.5, timeout=2.0) as load:
            for _ in range(8):
                asked = now()
                bench.get("/health/live")
                slowest = max(slowest, now() - asked)
                time.sleep(0.5)
        busy = sum(processes.cpu_seconds([hog.pid]) > BUSY_SECONDS for hog in hogs)
        bench.injections.acknowledge("busy process", busy)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    good = slowest < 1.0 and only(load.calls, 200, 429, 504)
    return observed(
        good,
        f"4 busy processes: liveness in at most {ms(slowest)}; {tell(load.calls)},"
        f" p95 {ms(p95(load.calls))}",
    )


def _retry_storm(bench: Bench) -> Finding:
    used = processes.cpu_seconds([bench.pid])
    storm = callers(bench.target, bench.history, bench.texts(), 256, seconds=4.0)
    cores = (processes.cpu_seconds([bench.pid]) - used) / 4.0
    held = processes.resident_bytes([bench.pid])
    callers(bench.target, bench.history, bench.texts(), 256, seconds=4.0)
    grown = (processes.resident_bytes([bench.pid]) - held) / 2**20
    with bench.load(bench.capacity * 0.3) as after:
        time.sleep(2.0)
    _acknowledge_overload(bench, storm)
    good = _goodput(storm) >= 0.85 * bench.capacity
    good &= only(storm, 200, 429) and only(after.calls, 200) and grown <= REPEAT_MB
    return observed(
        good,
        f"{len(storm) / 4:.0f} requests/s from 256 callers that never wait:"
        f" {_goodput(storm):.0f}/s answered, the HTTP process used {cores:.2f} cores;"
        f" a second storm cost {grown:.1f} MiB more than the first; afterwards"
        f" {tell(after.calls)}, p95 {ms(p95(after.calls))}",
    )


def _idle(bench: Bench) -> Finding:
    pids = bench.server.pids
    time.sleep(1.0)
    used, began = processes.cpu_seconds(pids), now()
    time.sleep(IDLE_SECONDS)
    share_of_core = (processes.cpu_seconds(pids) - used) / (now() - began)
    first = bench.post()
    taken = first.answered - first.sent
    good = share_of_core < 0.005 and first.kind == "ok" and taken <= bench.speed + 0.02
    return observed(
        good,
        f"{share_of_core:.2%} of a core while idle for {IDLE_SECONDS:g} s; the first request took"
        f" {ms(taken)}, others {ms(bench.speed)}",
    )


def _acknowledge_overload(bench: Bench, calls: list[Call]) -> None:
    """A service that refused some had more to do than it can."""
    bench.injections.acknowledge("overload", sum(call.status == 429 for call in calls))


def _goodput(calls: list[Call]) -> float:
    """Answers a second, from the first answer to the last: the ramp at both ends is left out."""
    answered = sorted(call.answered for call in calls if call.kind == "ok")
    if len(answered) < 2:
        return 0.0
    return (len(answered) - 1) / (answered[-1] - answered[0])


SCENARIOS: tuple[Scenario | NotRunnable, ...] = (
    Scenario(
        "L1",
        "Poisson load of 1.3, 3 and 10 times the capacity, 5 s each",
        "at least 90 % of the capacity is answered, the rest refused with 429; at most 0.1 % late",
        _overload,
        SHORT_QUEUE,
        real=True,
        injects={"overload": 1},
        timed=True,
    ),
    Scenario(
        "L2",
        "a spike of ten times the capacity for 2 s on a load of 50 %",
        "p95 as before once the queue is worked off and a second has passed; no 5xx",
        _spike,
        SHORT_QUEUE,
        injects={"overload": 1},
        timed=True,
    ),
    Scenario(
        "L3",
        "10,000 connections that say nothing any more, beside a load of 30 %",
        "the load does not notice: p95 within 10 % (and 20 ms of noise)",
        _idle_connections,
        allowed=Allowed(growth_mb=300),
        injects={"connection": IDLE_CONNECTIONS},
        timed=True,
    ),
    Scenario(
        "L4",
        "1, 4, 16, 64 and 256 callers that send again as soon as they are answered",
        "throughput rises with the callers up to the capacity, and does not fall beyond",
        _callers,
        timed=True,
    ),
    Scenario(
        "L5",
        "70 % load with exceptions, NaN, out of memory, a crash, a hang, kill -9, clients that"
        " leave and malformed bodies",
        "nothing unexpected: 200, 500 for culprits, 400 or 422 for malformed bodies, 429 and 503"
        " when to come back",
        _mix,
        mixed.ENV,
        Allowed(failing=mixed.is_culprit, unknown=True, growth_mb=64),
        injects=mixed.INJECTS_FIRST,
    ),
    Scenario(
        "L6",
        "one tenant sends texts of 400 words beside short ones",
        "short texts wait at most for the long one that runs; long texts are all answered",
        _long_and_short,
        BY_LENGTH,
        timed=True,
    ),
    Scenario(
        "L7",
        "a flood of low priority at five times the capacity beside 10 % of high priority",
        "high priority waits at most for the batch that runs; the flood gets 429, no timeouts",
        _priorities,
        SHORT_QUEUE,
        injects={"overload": 1},
        timed=True,
    ),
    Scenario(
        "L8",
        "one caller at five times the capacity, four others at 5/s each",
        "429 for the one, none for the others",
        _hog,
        SHORT_QUEUE,
        injects={"overload": 1},
    ),
    Scenario(
        "L9",
        "5,000 connections at once, each with a request",
        "every one is answered or refused; none is reset",
        _herd,
        SHORT_QUEUE,
        allowed=Allowed(growth_mb=150),
    ),
    Scenario(
        "L10",
        "four busy processes on the service's cores for 5 s, load 50 %",
        "alive within 1 s all the while; every request answered, refused or told it is late",
        _starved,
        real=True,
        injects={"busy process": 4},
        timed=True,
    ),
    Scenario(
        "L11",
        "256 callers who send again at once when refused, for 4 s, twice",
        "the engine's work stays at its capacity; the second storm takes no more memory than the"
        " first; all is well when they stop",
        _retry_storm,
        SHORT_QUEUE,
        Allowed(growth_mb=100),
        injects={"overload": 1},
        timed=True,
    ),
    Scenario(
        "L12",
        f"no request for {IDLE_SECONDS:g} s",
        "under 0.5 % of a core; the first request afterwards is as fast as any",
        _idle,
        timed=True,
    ),
)
