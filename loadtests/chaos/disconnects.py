"""Clients that leave while they wait: nothing of theirs runs, and nobody else notices."""

import argparse
import contextlib
import socket
from collections.abc import Iterator
from itertools import islice

from loadtests.chaos import resources
from loadtests.chaos.bench import Bench
from loadtests.chaos.bystanders import judged
from loadtests.chaos.culprits import AT_ONCE
from loadtests.drivers.background_load import encode
from loadtests.reports.finding import Finding, at_most, exactly, none
from loadtests.servers.launch import service

FIXED_MS = 2000  # A batch: long enough to arrive, to leave and to be noticed meanwhile.
WAVE = 250  # Clients that leave during one batch.
MATES = 10  # In each wave, between the others.
LOOK_SECONDS = 10.0
WARM_ROUNDS = 1
RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s.
GROWTH_MB = 1.0


def disconnects(bench: Bench, args: argparse.Namespace) -> list[Finding]:
    bench.start(
        service("disconnects", runner="simulated", sim_fixed_ms=FIXED_MS, sim_per_item_ms=0)
    )
    bench.begin()
    bench.raw = True
    waves = args.clients // WAVE
    before = bench.metrics()
    for number in range(WARM_ROUNDS):
        in_time = sum(_wave(bench) for _ in range(waves))
        print(f"disconnects: warm-up {number + 1}: {in_time} of {waves} waves in time", flush=True)
    held, began, sent = _held(bench), bench.stats(), len(bench.history)
    in_time = sum(_wave(bench) for _ in range(waves))
    ended, kept = bench.stats(), _held(bench)
    grown = max(kept[pid].resident_mb - held[pid].resident_mb for pid in held)
    left = sum(max(0, kept[pid].descriptors - held[pid].descriptors) for pid in held)
    good = len(bench.history) - sent
    ran = ended["batch_size"]["sum"] - began["batch_size"]["sum"]
    return [
        *judged(bench, "disconnects", before),
        Finding("disconnects: clients that left", waves * WAVE),
        exactly(
            "disconnects: counted as cancelled",
            ended["cancelled"] - began["cancelled"],
            waves * WAVE,
        ),
        exactly("disconnects: inputs that reached the device", ran, good),
        exactly("disconnects: waves that were gone before the next batch", in_time, waves),
        at_most(
            "disconnects: growth of the front (of each process but the workers), after the warm-up",
            grown,
            GROWTH_MB,
            "MiB",
        ),
        Finding(
            "disconnects: resident memory of it", sum(u.resident_mb for u in kept.values()), "MiB"
        ),
        none("disconnects: descriptors left open", left),
    ]


def _wave(bench: Bench) -> bool:
    """Whether all that left had been noticed while the batch that they waited behind still ran."""
    start = bench.stats()
    ended, cancelled = sum(start["batches"].values()), start["cancelled"]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(bench.load(AT_ONCE, texts=[bench.text()], timeout=20.0))
        bench.wait_until("a batch runs", lambda: bench.stats()["running"] == 1, LOOK_SECONDS)
        texts = bench.texts("left")
        leaving = list(_connected(bench, texts, WAVE // 2))
        mates = [bench.text() for _ in range(MATES)]
        stack.enter_context(bench.load(AT_ONCE, texts=mates, timeout=20.0))
        leaving += _connected(bench, texts, WAVE - WAVE // 2)
        expected = WAVE + MATES
        bench.wait_until("all wait", lambda: bench.stats()["waiting"] >= expected, LOOK_SECONDS)
        for number, client in enumerate(leaving):
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
        bench.wait_until(
            "all noticed", lambda: bench.stats()["cancelled"] - cancelled >= WAVE, LOOK_SECONDS
        )
        noticed = bench.stats()
        in_time = sum(noticed["batches"].values()) == ended and not first.calls[0].outcomes
    bench.wait_until("nothing waits", lambda: _is_idle(bench), LOOK_SECONDS)
    return in_time


def _held(bench: Bench) -> dict[int, resources.Usage]:
    """By all that is no worker."""
    usages, workers = resources.read(bench.pid).usages, bench.worker_pids()
    return {usage.pid: usage for usage in usages if usage.pid not in workers}


def _connected(bench: Bench, texts: Iterator[str], count: int) -> Iterator[socket.socket]:
    for text in islice(texts, count):
        client = bench.socket()
        client.sendall(encode(bench.target, text, 20.0))
        yield client


def _is_idle(bench: Bench) -> bool:
    stats = bench.stats()
    return not stats["waiting"] and not stats["running"]
