"""Locust: real sentences at a constant arrival rate.

    make loadtest                 # a minute without a page; leaves build/loadtest.html
    make locust                   # Locust's page, on http://127.0.0.1:8089
    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8000 \\
        --rate 250 --users 500 --spawn-rate 500 --run-time 30s --texts short --sentences DIR

Each user sends rate/users requests a second, so the rate holds until an answer takes longer than
users/rate seconds; past that Locust slows down, as any closed loop does, and its latencies flatter
the server. `python -m loadtests openloop` does not. Percentiles above 100 ms have two digits.
"""

import argparse
import itertools
import random
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import gevent
from flask import jsonify, request
from locust import FastHttpUser, events, task

from loadtests.drivers import workloads
from loadtests.drivers.locust import rate_argument, refusal
from loadtests.drivers.target import parse_target

_CONNECT_TIMEOUT = 2.0  # seconds, on the loopback


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # Locust's own.
def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=rate_argument, default=50.0, help="requests/s")
    parser.add_argument("--texts", choices=workloads.KINDS, default="short")
    parser.add_argument("--seed", type=int, default=1)
    # Not on the page: its form sends "" for an option that is unset, which would be a folder.
    workloads.add_arguments(parser, include_in_web_ui=False)


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust's own.
def prepare(environment: Any, web_ui: Any = None, **_: Any) -> None:
    try:
        target = parse_target(environment.host or "")
        environment.sentences = workloads.load_sentences(environment.parsed_options.sentences)
        if web_ui is None:
            socket.create_connection((target.host, target.port), _CONNECT_TIMEOUT).close()
    except ValueError as error:
        raise SystemExit(f"locust: {error}") from error
    except OSError as error:
        reason = f"cannot connect to {target.url} ({error.strerror}): start the service first"
        raise SystemExit(f"locust: {reason}") from error
    # The last lines of all: Locust's own tables come before this event.
    events.quit.add_listener(partial(report, environment))
    if web_ui is not None:
        web_ui.app.before_request(refuse_bad_forms)


def refuse_bad_forms() -> Any:
    """None lets Locust go on."""
    reason = refusal(request.form) if request.path.endswith("/swarm") else None
    return reason and jsonify({"success": False, "message": reason})


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # Locust's own.
def load(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    chosen = workloads.texts(options.texts, environment.sentences, options.seed)
    environment.texts = itertools.cycle(chosen)


def report(environment: Any, **_: Any) -> None:
    total = environment.stats.total
    p50, p95 = (total.get_response_time_percentile(share) or 0 for share in (0.5, 0.95))
    print(
        f"{total.num_requests} requests, {total.num_failures} failed, "
        f"{total.total_rps:.1f}/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms"
    )
    if page := environment.parsed_options.html_file:
        print(f"report: {Path(page).resolve()}")


class Caller(FastHttpUser):  # type: ignore[misc]  # Locust is untyped here.
    """Sends on a schedule of its own, as Locust's constant_throughput with a phase of its own."""

    def on_start(self) -> None:
        # Locust starts users in bursts; without this they would all send in step for ever.
        gevent.sleep(random.random() * self.period)
        self.due = time.perf_counter()

    @property
    def period(self) -> float:
        """Seconds. Read anew each time: Locust's page can change the number of users of a run."""
        options = self.environment.parsed_options
        return float((options.num_users or 1) / options.rate)

    def wait_time(self) -> float:
        moment = time.perf_counter()
        self.due = max(self.due + self.period, moment)  # Late: at once, but no burst to catch up.
        return self.due - moment

    @task  # type: ignore[untyped-decorator]  # Locust's own.
    def embed(self) -> None:
        self.client.post("/embed", json={"inputs": next(self.environment.texts)})
