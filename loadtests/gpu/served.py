"""The service on this machine: saturated with 1 to 8 fronts, at given rates, and how idle it is."""

import json
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.drivers.parallel import Load, offer, saturate
from loadtests.drivers.target import Target
from loadtests.drivers.timer import now
from loadtests.servers.launch import Server, Variant, service

STATS_SECONDS = 30.0  # For an answer of a service that is saturated.
EDGES = 0.2  # Of the time of a run, at either end.
SPECIAL_TOKENS = 2  # What the tokenizer adds to every text.


class Saturated(NamedTuple):
    """`idle`: the share of the time in which no replica had a batch; `resting`: in which no batch
    ran, by the times that the workers report."""

    tokens: int
    each: int  # Inputs in one HTTP request.
    inputs_per_s: float
    load: Load
    idle: float
    resting: float
    mean_batch: float


def texts(folder: Path, tokens: int, count: int) -> list[str]:
    """All different, of exactly so many tokens, special ones included: of whole words only."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(
        word for word in vocabulary if word.isascii() and word.isalpha() and word.islower()
    )
    chance = random.Random(tokens)
    return [" ".join(chance.choices(words, k=tokens - SPECIAL_TOKENS)) for _ in range(count)]


def requests(target: Target, chosen: Sequence[str], each: int) -> list[bytes]:
    groups = [list(chosen[first : first + each]) for first in range(0, len(chosen), each)]
    return [target.post("/embed", json.dumps({"inputs": group}).encode()) for group in groups]


def variant(name: str, settings: Mapping[str, object]) -> Variant:
    return service(name, max_queue_size=65536, **settings)


def saturated(
    server: Server,
    pool: Pool,
    count: int,
    chosen: Sequence[str],
    tokens: int,
    each: int,
    callers: int,
    seconds: float,
) -> Saturated:
    asked = requests(server.target, chosen, each)
    with ThreadPoolExecutor(1, "drive") as beside:
        driving = beside.submit(saturate, pool, count, server.target, asked, callers, seconds)
        # Two looks in the midst of it: at the ends the callers come and go.
        time.sleep(EDGES * seconds)
        before, began = _stats(server), now()
        time.sleep((1 - 2 * EDGES) * seconds)
        after, took = _stats(server), now() - began
        load = driving.result()
    replicas = len(after["replicas"])
    busy = sum(replica["busy_seconds"] for replica in after["replicas"])
    busy -= sum(replica["busy_seconds"] for replica in before["replicas"])
    ran = after["inference"]["sum"] - before["inference"]["sum"]
    sizes = after["batch_size"]["sum"] - before["batch_size"]["sum"]
    batches = sum(after["batches"].values()) - sum(before["batches"].values())
    return Saturated(
        tokens,
        each,
        load.answered_per_s * each,
        load,
        1 - busy / took / replicas,
        1 - ran / took / replicas,
        sizes / batches if batches else 0.0,
    )


def at_rates(
    server: Server,
    pool: Pool,
    count: int,
    chosen: Sequence[str],
    rates: Sequence[float],
    seconds: float,
) -> list[tuple[float, Load]]:
    asked = requests(server.target, chosen, 1)
    return [(rate, offer(pool, count, server.target, asked, rate, seconds)) for rate in rates]


def _stats(server: Server) -> dict[str, Any]:
    status, body = server.get("/stats", STATS_SECONDS)
    if status != 200:
        raise RuntimeError(f"/stats answered {status}")
    stats: dict[str, Any] = json.loads(body)
    return stats
