"""Part of `overload`: an idle service is asked for what it cannot keep, one request after another.

A device that idles may run one of these to learn whether its prediction still holds, not each.
"""

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.chaos.spared import at_most, none
from loadtests.checks.saturation import ACCELERATOR
from loadtests.reports.finding import Finding
from loadtests.servers.launch import Server

ASKED = 20
DEADLINE = 0.020
MOST_RUN = 2
REFUSED = 429
TIMEOUT = 5.0
PAUSE = 1.3 * ACCELERATOR.time(1)  # Then even one that has run is over, and the device idles again.


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: its status, and its Retry-After as it was written."""

    status: int
    retry_after: str | None


def hopeless(server: Server) -> list[Finding]:
    before = _batches(server)
    told = []
    for number in range(ASKED):
        told.append(_ask(server, f"hopeless {number}"))
        time.sleep(PAUSE)
    ran = _batches(server) - before
    print(f"hopeless: {[answer.status for answer in told]}, {ran} batches", flush=True)
    return judged(told, ran)


def judged(told: Sequence[Told], ran: int) -> list[Finding]:
    part = f"idle, {DEADLINE * 1e3:g} ms where one takes {ACCELERATOR.time(1) * 1e3:g}"
    refused = [answer for answer in told if answer.status == REFUSED]
    return [
        at_most(f"{part}: of {len(told)} requests, batches run", ran, MOST_RUN),
        at_most(f"{part}: not refused with 429", len(told) - len(refused), MOST_RUN),
        none(
            f"{part}: 429 without a whole Retry-After of 1 or more",
            sum(not is_whole(answer.retry_after) for answer in refused),
        ),
    ]


def is_whole(retry_after: str | None) -> bool:
    """RFC 9110: digits alone; and 0 would bring everybody back at once."""
    return (
        retry_after is not None
        and retry_after.isascii()
        and retry_after.isdigit()
        and int(retry_after) >= 1
    )


def _ask(server: Server, text: str) -> Told:
    target = server.target
    connection = http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT)
    headers = {
        "Content-Type": "application/json",
        "X-Request-Timeout-Ms": f"{DEADLINE * 1e3:g}",
    }
    try:
        connection.request("POST", "/embed", json.dumps({"inputs": text}), headers)
        answer = connection.getresponse()
        answer.read()
        return Told(answer.status, answer.getheader("Retry-After"))
    finally:
        connection.close()


def _batches(server: Server) -> int:
    stats = json.loads(server.get("/stats")[1])
    return sum(stats["batches"].values())
