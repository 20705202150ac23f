"""What does the service cost beside its model? wrk on a 0 ms accelerator and on a bare route."""

import argparse
import http.client
from statistics import median

from loadtests.drivers import workloads
from loadtests.drivers.target import count_between, cpus_argument, number_between
from loadtests.drivers.wrk import post_embed
from loadtests.reports.finding import Finding, Measured, over, spread
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server, Variant, running, service

TITLE = "Requests a second with a model that takes no time, against a bare Starlette route"
SHARE = 0.55
TEXT = "the harbour lights before sunrise"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=count_between(1, 1024), default=64)
    parser.add_argument("--seconds", type=number_between(1, 60), default=10.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=5)
    parser.add_argument("--wrk-cpus", type=cpus_argument, help="cores of wrk; default: any")


def measure(args: argparse.Namespace, record: Record) -> Measured:
    # wrk sends one text for ever: shared, it would be a row or two of work.
    apart = {"share_equal": "false"}
    ours = service("service", runner="simulated", sim_fixed_ms=0, sim_per_item_ms=0, **apart)
    rates: dict[str, list[float]] = {"service": [], "bare": []}
    busy: dict[str, list[float]] = {"service": [], "bare": []}
    lines = ["server,repeat,requests_per_s,errors,cpu_cores"]
    with running(ours, args.cpus) as first:
        size = _answer_size(first)
        bare = Variant("bare", "loadtests.baselines.bare", ("--port={port}", f"--size={size}"))
        with running(bare, args.cpus) as second:  # Whichever is not driven is idle.
            for repeat in range(args.repeats):
                for name, server in (("service", first), ("bare", second)):
                    before = processes.cpu_seconds(server.pids)
                    report = post_embed(
                        server.target, TEXT, args.connections, args.seconds, args.wrk_cpus
                    )
                    cores = (processes.cpu_seconds(server.pids) - before) / args.seconds
                    rates[name].append(report.requests_per_s)
                    busy[name].append(cores)
                    lines.append(
                        f"{name},{repeat},{report.requests_per_s},{report.errors},{cores:.2f}"
                    )
                    print(lines[-1], flush=True)
                    if report.errors:
                        raise RuntimeError(
                            f"{name}: {report.errors} requests were not answered 2xx"
                        )
    record.text("wrk.csv", "\n".join(lines) + "\n")
    share = over(rates["service"], rates["bare"])
    findings = [
        Finding(
            "requests a second, beside bare", share, "x", need=f">= {SHARE}", ok=share >= SHARE
        ),
        Finding("medians", median(rates["service"]), "/s", ideal=median(rates["bare"])),
    ]
    notes = [
        f"- {name}: {spread(values)}/s on {median(busy[name]):.2f} cores"
        for name, values in rates.items()
    ]
    return Measured(findings, f"Answers of {size} bytes.\n\n" + "\n".join(notes))


def _answer_size(server: Server) -> int:
    connection = http.client.HTTPConnection(server.target.host, server.target.port, timeout=10)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/embed", workloads.embed_body(TEXT), headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"POST /embed answered {answer.status}: {body[:500]!r}")
    return len(body)
