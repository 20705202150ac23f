"""Hours of the mixed load: is every round right, and does anything grow?"""

import io
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event, Thread

import numpy as np

from loadtests.chaos import invariants, resources
from loadtests.chaos.bench import SIMULATED, Bench
from loadtests.chaos.invariants import Violation
from loadtests.chaos.mixed import (
    ENV,
    INJECTS,
    INJECTS_FIRST,
    LOAD,
    is_culprit,
    round_of,
    unexpected,
)
from loadtests.chaos.resources import Usage
from loadtests.chaos.scenario import Allowed
from loadtests.drivers.timer import now
from loadtests.reports.record import Record
from loadtests.servers.launch import Variant
from loadtests.servers.metrics_page import Counters

ROUND_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
WARM_SHARE = 0.2  # Of the samples: what grows once has grown then.
FEWEST = 6  # Samples, for a slope.
ALLOWED = 8  # Descriptors or threads: a sample does not always meet the quietest moment of a round.
JUDGED_MINUTES = 10.0  # Shorter soaks see the backlog of a fault come and go, not a leak.
GROWTH_MB = 4.0  # That the front may gain, by its slope, over the soak; 1 an hour for long ones.
MIX = Allowed(failing=is_culprit, unknown=True)


@dataclass(slots=True)
class Growth:
    """Samples of one process over its life."""

    role: str
    times: list[float] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    def slope(self, what: str) -> float:
        """Per hour, by least squares, after the warm-up."""
        skip = int(len(self.times) * WARM_SHARE)
        hours = np.asarray(self.times[skip:]) / 3600
        values = np.asarray([getattr(usage, what) for usage in self.usages[skip:]], dtype=float)
        if len(hours) < FEWEST:
            return 0.0
        slope: float = np.polyfit(hours - hours[0], values, 1)[0]
        return slope


class Sampler:
    """Looks at every process of the service, from a thread of its own, each 5 s."""

    def __init__(self, bench: Bench) -> None:
        self.lives: dict[int, Growth] = {}
        self._bench, self._stop, self._began = bench, Event(), now()
        self._thread = Thread(target=self._main, name="sampler")

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _main(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            for usage in resources.read(self._bench.pid).usages:
                role = "front" if usage.pid == self._bench.pid else "child"
                life = self.lives.setdefault(usage.pid, Growth(role))
                life.times.append(now() - self._began)
                life.usages.append(usage)


def run(minutes: float, record: Record) -> int:
    """Rounds until the time is over. Returns 0 when all was right and nothing grew."""
    bench, outcomes, found, odd, rounds = Bench(), Counter[str](), list[Violation](), 0, 0
    end = time.monotonic() + minutes * 60
    try:
        bench.start(Variant("soak", "service", (), dict(SIMULATED) | ENV))
        with Sampler(bench) as sampler:
            while (left := end - time.monotonic()) > 1.0:
                bench.begin()
                before = bench.metrics()
                calls = round_of(bench, min(ROUND_SECONDS, max(10.0, left)), seed=rounds)
                rounds += 1
                odd += len(unexpected(calls))
                outcomes.update(call.outcome for call in calls)
                wanted = INJECTS if rounds > 1 else INJECTS_FIRST
                found += _checked(bench, before, wanted)
                told = " ".join(f"{name}:{count}" for name, count in sorted(outcomes.items()))
                print(
                    f"round {rounds}: {told}; {odd} unexpected, {len(found)} violations", flush=True
                )
            restarts = bench.restarts()
    finally:
        bench.stop()
    record.packed("samples.csv", _samples(sampler))
    front = next(life for life in sampler.lives.values() if life.role == "front")
    limit = max(1.0, GROWTH_MB / (minutes / 60))
    judged = minutes >= JUDGED_MINUTES
    grows = judged and (front.slope("resident_mb") > limit or _gained(front))
    good = not odd and not found and not grows
    body = "\n\n".join(
        [
            f"{minutes:g} minutes at {LOAD:.0%} load in {rounds} rounds; {restarts} restarts."
            f" Verdict: {'survived' if good else '**FAILED**'}.",
            f"Outcomes: {dict(outcomes)}; {odd} unexpected.",
            "Violations: " + ("; ".join(map(str, found)) or "none; conservation exact each round"),
            _slopes(sampler, limit)
            + ("" if judged else "\n\nToo short for slopes to say anything: they are not judged."),
        ]
    )
    figures = {"outcomes": outcomes, "unexpected": odd, "violations": found, "restarts": restarts}
    record.finish("Soak: mixed faults on the simulated accelerator", body, figures)
    return 0 if good else 1


def _checked(bench: Bench, before: Counters, wanted: Mapping[str, int]) -> list[Violation]:
    bench.check_alive()
    calls, reference = bench.history.calls, bench.reference
    found = invariants.one_outcome(calls, MIX)
    found += invariants.own_answers(calls, reference.answer, reference.tolerance)
    found += invariants.policy(calls, MIX)
    found += invariants.injected(wanted, bench.injections.counts())
    time.sleep(0.5)  # An answer is counted after it is sent.
    after = bench.metrics()
    found += invariants.engine_conserves(after, idle=True)
    return found + invariants.counters_agree(before, after, calls, raw=False)


def _gained(front: Growth) -> bool:
    """Descriptors or threads, from the first half to the second. Both come and go with the load:
    what counts is how low they get, which is the same in every round if nothing is left behind."""
    half = len(front.usages) // 2
    if half < FEWEST:
        return False
    first, second = front.usages[:half], front.usages[half:]
    return any(
        min(getattr(one, what) for one in second)
        > min(getattr(one, what) for one in first) + ALLOWED
        for what in ("descriptors", "threads")
    )


def _slopes(sampler: Sampler, limit: float) -> str:
    lines = [
        f"| process | samples | MiB/h (front: at most {limit:.1f}) | descriptors/h | threads/h |",
        "|---|---|---|---|---|",
    ]
    shown = [(pid, life) for pid, life in sampler.lives.items() if len(life.times) >= FEWEST]
    for number, (_, life) in enumerate(shown):
        cells = [f"{life.slope(w):.2f}" for w in ("resident_mb", "descriptors", "threads")]
        name = life.role if life.role == "front" else f"child {number}"
        lines.append(f"| {name} | {len(life.times)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _samples(sampler: Sampler) -> str:
    page = io.StringIO()
    page.write("time_s,role,life,resident_mb,descriptors,threads\n")
    for number, life in enumerate(sampler.lives.values()):
        for at, usage in zip(life.times, life.usages, strict=True):
            page.write(
                f"{at:.1f},{life.role},{number},{usage.resident_mb:.2f},{usage.descriptors},"
                f"{usage.threads}\n"
            )
    return page.getvalue()
