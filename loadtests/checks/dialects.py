"""Do calls in different dialects share batches? The same texts are asked for in one dialect by all
callers, and in four of them at once; then again with the same arrivals, whatever is answered.

The accelerator is simulated, so that the model's time is the same for all. A dialect's own answer
takes its own time to write: mixed traffic is judged beside the mean of the dialects alone, and
beside POST /embed alone it is reported.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, harmonic_mean, median

from loadtests.drivers import arrivals, closedloop, openloop, workloads
from loadtests.drivers.outcomes import OK
from loadtests.drivers.target import Target, count_between, number_between
from loadtests.reports.finding import Finding, Measured, none, over, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, running, service
from loadtests.servers.metrics_page import Counters, mean_batch, parse

TITLE = "Mixed traffic in four dialects, beside one dialect alone"
KEPT = 0.97  # of the mean batch and of the throughput
REQUESTS = 4096  # so many different texts: equal ones would share a row
FIXED_MS, PER_ITEM_MS = 40.0, 0.5  # so long that the dialects' own work is little beside it
MIXED = "all four"
WARM_UP = 1.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=number_between(2, 120), default=8.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 20), default=5)
    parser.add_argument("--callers", type=count_between(4, 1024), default=64)
    parser.add_argument("--rate", type=number_between(1, 5000), default=250.0, help="per second")


def body(path: str, text: str) -> dict[str, object]:
    """One text, as a client of that dialect asks for its vector."""
    match path:
        case "/v1/embeddings":
            return {"model": "simulated", "input": text, "encoding_format": "float"}
        case "/v2/embed":
            asked = {"input_type": "search_document", "embedding_types": ["float"]}
            return {"model": "simulated", "texts": [text], **asked}
        case "/api/embed":
            return {"model": "simulated", "input": text}
    return {"inputs": text}


DIALECTS = {
    "/embed": "text-embeddings-inference",
    "/v1/embeddings": "OpenAI",
    "/v2/embed": "Cohere",
    "/api/embed": "Ollama",
}


@dataclass
class Runs:
    """Of one load, a value for each repeat. Throughput is of the callers, who ask anew as soon as
    they are answered; `offered` is where arrivals do not wait for answers."""

    batch: list[float] = field(default_factory=list)
    throughput: list[float] = field(default_factory=list)
    offered_batch: list[float] = field(default_factory=list)
    offered_throughput: list[float] = field(default_factory=list)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    texts = workloads.texts(
        "short", workloads.load_sentences(args.sentences), seed=1, count=REQUESTS
    )
    times = arrivals.poisson(args.rate, args.seconds, seed=1)
    found: dict[str, Runs] = {}
    failed = 0
    variant = service(
        "service", runner="simulated", sim_fixed_ms=FIXED_MS, sim_per_item_ms=PER_ITEM_MS
    )
    with running(variant, args.cpus) as server:
        loads = requests_of(server.target, texts)
        closedloop.drive(server.target, loads[MIXED], args.callers, WARM_UP)
        for repeat in range(args.repeats):
            # One way and then the other: what drifts meets each of them as often early as late.
            for name in [*loads][:: 1 if repeat % 2 == 0 else -1]:
                of = found.setdefault(name, Runs())
                before = _page(server)
                run = closedloop.drive(server.target, loads[name], args.callers, args.seconds)
                between = _page(server)
                offered = openloop.referee(server.target, loads[name], times, args.seconds)
                of.batch.append(mean_batch(before, between))
                of.throughput.append(closedloop.throughput(run))
                of.offered_batch.append(mean_batch(between, _page(server)))
                of.offered_throughput.append(closedloop.throughput(offered))
                failed += sum(out.status != OK for out in [*run.outcomes, *offered.outcomes])
                told = (
                    f"{repeat + 1}/{args.repeats} {name}: mean batch {of.batch[-1]:.2f},"
                    f" {of.throughput[-1]:.1f}/s; same arrivals {of.offered_batch[-1]:.2f},"
                    f" {of.offered_throughput[-1]:.1f}/s"
                )
                record.line("runs.txt", told)
                print(told, flush=True)
    findings = [*judged(found), none("calls not answered 200", failed)]
    return Measured(findings, "\n".join([_HEAD, *(_row(name, of) for name, of in found.items())]))


def requests_of(target: Target, texts: Sequence[str]) -> Mapping[str, Sequence[bytes]]:
    """By the dialect; mixed traffic has each in turn."""

    def request(path: str, text: str) -> bytes:
        return target.post(path, json.dumps(body(path, text)).encode())

    paths = list(DIALECTS)
    turns = [paths[place % len(paths)] for place in range(len(texts))]
    return {
        **{path: [request(path, text) for text in texts] for path in paths},
        MIXED: [request(path, text) for path, text in zip(turns, texts, strict=True)],
    }


def judged(found: Mapping[str, Runs]) -> list[Finding]:
    """The medians of the rounds' ratios. Callers who ask in four dialects ask as often in each: at
    the harmonic mean of the rates."""
    alone = [found[path] for path in DIALECTS]
    mixed, findings = found[MIXED], []
    for what, of, mean in (
        ("callers: mean batch", "batch", fmean),
        ("callers: requests/s", "throughput", harmonic_mean),
        ("same arrivals: mean batch", "offered_batch", fmean),
        ("same arrivals: requests/s", "offered_throughput", fmean),
    ):
        those = [mean(one) for one in zip(*(getattr(each, of) for each in alone), strict=True)]
        these, of_one = getattr(mixed, of), getattr(alone[0], of)
        share = over(these, those)
        findings += [
            Finding(f"{what} of all four", median(these), ideal=median(those)),
            Finding(
                f"{what}, of the mean of the four alone",
                share,
                "x",
                None,
                f">= {KEPT}",
                share >= KEPT,
            ),
            Finding(f"{what}, of /embed alone", over(these, of_one), "x"),
        ]
    return findings


_HEAD = (
    "Medians (lowest to highest):\n\n"
    "| load | mean batch | requests/s | mean batch, same arrivals | requests/s |\n"
    "|---|---|---|---|---|"
)


def _row(name: str, of: Runs) -> str:
    told = f"{name} ({DIALECTS[name]})" if name in DIALECTS else name
    values = (of.batch, of.throughput, of.offered_batch, of.offered_throughput)
    return " | ".join([f"| {told}", *map(spread, values)]) + " |"


def _page(server: Server) -> Counters:
    status, page = server.get("/metrics")
    assert status == 200, f"/metrics answered {status}"
    return parse(page.decode())
