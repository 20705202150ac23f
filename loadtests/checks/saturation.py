"""How near the ideal? A simulated accelerator against the exact queueing model of it, over HTTP."""

import argparse

import numpy as np

from loadtests import arrivals, closedloop, workloads
from loadtests.checks.finding import Finding, Measured
from loadtests.openloop import referee
from loadtests.record import Record
from loadtests.servers import running, service
from loadtests.target import count_between, number_between
from loadtests.yardstick import Accelerator, exact, take_all

TITLE = "A simulated accelerator (50 ms + 5 ms a request, max batch 32) against the exact model"
ACCELERATOR = Accelerator(fixed=0.050, each=0.005, limit=32)
CALLERS = 128  # Four full batches: the queue never runs dry.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rho", type=number_between(0.01, 0.98), nargs="*", default=[0.3, 0.5, 0.7, 0.9]
    )
    parser.add_argument("--seconds", type=number_between(3, 600), default=75.0, help="a rho")
    parser.add_argument("--saturated-seconds", type=number_between(3, 300), default=30.0)
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    variant = service(
        "simulated",
        runner="simulated",
        sim_fixed_ms=50,
        sim_per_item_ms=5,
        sim_per_token_us=0,
        max_batch_size=ACCELERATOR.limit,
    )
    texts = workloads.texts("short", workloads.built_in_sentences(), args.seed)
    findings = []
    with running(variant, args.cpus) as server:
        requests = [server.target.post("/embed", workloads.embed_body(text)) for text in texts]
        alone = closedloop.drive(server.target, requests, 1, seconds=4.0)
        record.raw("alone", alone)
        median_ms = alone.summary(skip=0.5).p50_ms
        overhead = median_ms / 1e3 - ACCELERATOR.time(1)
        findings.append(_overhead(overhead))
        print(f"alone: p50 {median_ms:.2f} ms, overhead {overhead * 1e3:.2f} ms", flush=True)
        full = closedloop.drive(server.target, requests, CALLERS, args.saturated_seconds)
        record.raw("saturated", full)
        findings += _saturation(closedloop.throughput(full, 2.0))
        print(findings[-2], flush=True)
        for rho in args.rho:
            rate = rho * ACCELERATOR.capacity
            times = arrivals.poisson(rate, args.seconds, args.seed)
            run = referee(server.target, requests, times, args.seconds)
            record.raw(f"rho-{rho}", run)
            summary = run.summary()
            print(f"rho {rho}: {summary}", flush=True)
            findings += _poisson(rho, rate, times, np.array([out.latency for out in run.outcomes]))
            findings.append(
                Finding(
                    f"rho {rho}: mean batch",
                    summary.mean_batch,
                    ideal=exact(rate, ACCELERATOR).batch,
                )
            )
    notes = (
        "`mean` is judged with the luck of the draw taken out: measured minus the computed mean of "
        "the same arrivals plus the exact mean. `as drawn` is the plain mean of this run, and "
        "beside it what the ideal accelerator makes of the same arrivals."
    )
    return Measured(findings, notes)


def _overhead(seconds: float) -> Finding:
    return Finding("unloaded: latency above s(1)", seconds * 1e3, "ms")


def _saturation(rate: float) -> list[Finding]:
    capacity = ACCELERATOR.capacity
    gap = ACCELERATOR.limit / rate - ACCELERATOR.time(ACCELERATOR.limit)
    return [
        Finding(
            "saturation", rate, "/s", ideal=capacity, need=">= 0.97", ok=rate >= 0.97 * capacity
        ),
        Finding("saturated: idle between two batches", gap * 1e3, "ms"),
    ]


def _poisson(
    rho: float, rate: float, times: arrivals.Times, latencies: arrivals.Times
) -> list[Finding]:
    ideal = exact(rate, ACCELERATOR).latency
    computed = take_all(times.tolist(), ACCELERATOR)
    corrected = float(latencies.mean() - computed.mean()) + ideal
    found = [
        Finding(
            f"rho {rho}: mean",
            corrected * 1e3,
            "ms",
            ideal=ideal * 1e3,
            need="within 5 % + 2 ms",
            ok=abs(corrected - ideal) <= 0.05 * ideal + 0.002,
        ),
        Finding(
            f"rho {rho}: mean as drawn", latencies.mean() * 1e3, "ms", ideal=computed.mean() * 1e3
        ),
    ]
    for share in (50, 95, 99):
        measured, best = (np.percentile(values, share) * 1e3 for values in (latencies, computed))
        found.append(Finding(f"rho {rho}: p{share} as drawn", measured, "ms", ideal=best))
    return found
