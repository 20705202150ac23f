"""One input spoils its batch: it raises, or the batch is too large for the memory with it."""

import argparse
import random
from itertools import islice, pairwise

from loadtests.chaos.bench import Bench
from loadtests.chaos.bystanders import judged, most_extra_runs
from loadtests.chaos.worker import seeded
from loadtests.drivers.background_load import callers
from loadtests.reports.finding import Finding, at_most, exactly, none
from loadtests.servers.launch import service

TOGETHER = 32
AT_ONCE = 1e6  # Arrivals a second.
SEND_SECONDS = 10.0
LONG = "long " * 490  # 0.1 s of work.
CALLERS = 32
EVERY = 50  # One culprit in so many: 2 %.
LEARN_SECONDS = 60.0


def culprit(bench: Bench, args: argparse.Namespace) -> list[Finding]:
    """A long text that goes first keeps the replica busy while the others gather."""
    settings = {"sim_fixed_ms": 5, "sim_per_item_ms": 0, "sim_per_token_us": 200}
    if not bench.ask.takes_long:
        settings["sim_fixed_ms"] = 100
    bench.start(service("culprit", runner="simulated", **settings))
    bench.begin()
    before, chance, bound = bench.metrics(), random.Random(1), most_extra_runs(TOGETHER)
    extra = [_splits(bench)]
    for number in range(1, args.rounds + 1):
        texts = list(islice(bench.texts(), TOGETHER))
        texts[chance.randrange(TOGETHER)] = bench.text("fault:raise")
        _send_together(bench, texts)
        extra.append(_splits(bench))
        if not number % 25:
            print(f"culprit: round {number}, {extra[-1] - extra[0]} extra runs", flush=True)
    each = [after - ahead for ahead, after in pairwise(extra)]
    return [
        *judged(bench, "culprit", before),
        at_most("culprit: extra runs", sum(each), bound * args.rounds),
        at_most("culprit: extra runs of the worst round", max(each), bound),
        Finding("culprit: rounds with all 32 in one batch", each.count(bound)),
        none("culprit: worker restarts", bench.restarts()),
    ]


def memory(bench: Bench, args: argparse.Namespace) -> list[Finding]:
    """Callers who wait for their answer: however small the batches become, nobody is overloaded."""
    bench.start(service("memory", runner="simulated", sim_fixed_ms=40, sim_per_item_ms=2.5))
    bench.begin()
    before, splits = bench.metrics(), [_splits(bench)]
    texts = seeded(bench, "oom", EVERY)
    for seconds in (LEARN_SECONDS, args.seconds - LEARN_SECONDS):
        done = callers(bench.target, bench.history, texts, CALLERS, seconds)
        splits.append(_splits(bench))
        safe = bench.stats()["replicas"][0]["safe_size"]
        print(
            f"memory: {seconds:.0f} s, {len(done)} requests, {splits[-1] - splits[-2]} extra runs,"
            f" safe size {safe}",
            flush=True,
        )
    found = judged(bench, "memory", before, culprit=200)  # Each fits a batch of four.
    return [
        *found,
        Finding(
            "memory: extra runs in the first minute",
            splits[1] - splits[0],
            need=">= 1",
            ok=splits[1] > splits[0],
        ),
        exactly("memory: extra runs after it", splits[2] - splits[1], 0),
        Finding("memory: largest batch that the service takes to be safe", safe or 0),
        none("memory: worker restarts", bench.restarts()),
    ]


def _send_together(bench: Bench, texts: list[str]) -> None:
    """On a connection each, while a batch runs; returns when all have their outcome."""
    first_of_all = bench.text(LONG if bench.ask.takes_long else "first")
    with bench.load(AT_ONCE, texts=[first_of_all], timeout=20.0) as first:
        bench.wait_until("the first sent", lambda: bool(first.calls), SEND_SECONDS)
        with bench.load(AT_ONCE, texts=texts, timeout=20.0) as load:
            bench.wait_until("all sent", lambda: len(load.calls) == len(texts), SEND_SECONDS)


def _splits(bench: Bench) -> int:
    return int(bench.metrics().get("batcher_batches_total", reason="split"))
