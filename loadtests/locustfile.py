"""Locust: real sentences at a constant arrival rate.

    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8000 \\
        --rate 250 --users 500 --spawn-rate 500 --run-time 30s --texts short --sentences DIR

Each user sends rate/users requests a second, so the rate holds until an answer takes longer than
users/rate seconds; past that Locust slows down, as any closed loop does, and its latencies flatter
the server. `python -m loadtests openloop` does not. Percentiles above 100 ms have two digits.
"""

import argparse
import itertools
import random
import time
from typing import Any

import gevent
from locust import FastHttpUser, events, task

from loadtests.drivers import workloads
from loadtests.drivers.target import number_between, parse_target


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # Locust's own.
def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=number_between(0.1, 10_000), default=50.0, help="requests/s")
    parser.add_argument("--texts", choices=workloads.KINDS, default="short")
    parser.add_argument("--seed", type=int, default=1)
    workloads.add_arguments(parser)


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust's own.
def refuse_other_hosts(environment: Any, **_: Any) -> None:
    try:
        parse_target(environment.host or "")
    except ValueError as error:
        raise SystemExit(f"locust: {error}") from error


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # Locust's own.
def load(environment: Any, **_: Any) -> None:
    parse_target(environment.host)  # Again: Locust's page lets the host be changed.
    options = environment.parsed_options
    sentences = workloads.load_sentences(options.sentences)
    environment.texts = itertools.cycle(workloads.texts(options.texts, sentences, options.seed))


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # Locust's own.
def report(environment: Any, **_: Any) -> None:
    total = environment.stats.total
    p50, p95 = (total.get_response_time_percentile(share) or 0 for share in (0.5, 0.95))
    print(
        f"{total.num_requests} requests, {total.num_failures} failed, "
        f"{total.total_rps:.1f}/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms"
    )


class Caller(FastHttpUser):  # type: ignore[misc]  # Locust is untyped here.
    """Sends on a schedule of its own, as Locust's constant_throughput with a phase of its own."""

    def on_start(self) -> None:
        options = self.environment.parsed_options
        self.period = (options.num_users or 1) / options.rate
        # Locust starts users in bursts; without this they would all send in step for ever.
        gevent.sleep(random.random() * self.period)
        self.due = time.perf_counter()

    def wait_time(self) -> float:
        moment = time.perf_counter()
        self.due = max(self.due + self.period, moment)  # Late: at once, but no burst to catch up.
        return self.due - moment

    @task  # type: ignore[untyped-decorator]  # Locust's own.
    def embed(self) -> None:
        self.client.post("/embed", json={"inputs": next(self.environment.texts)})
