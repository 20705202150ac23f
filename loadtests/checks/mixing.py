"""Do calls that can share a forward pass share batches? Vectors of texts, vectors of their tokens
and similarities are asked for by half of the callers each, beside all callers asking for one."""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import median

from loadtests.drivers import closedloop, workloads
from loadtests.drivers.target import Target, count_between, number_between
from loadtests.reports.finding import Finding, Measured, over, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, running, service
from loadtests.servers.metrics_page import Counters, mean_batch, parse

TITLE = "Mean batch of two tasks that share a forward pass, beside one task alone"
KEPT = 0.9  # of the mean batch, or about half if they did not mix
REQUESTS = 512
VECTORS, TOKENS, SIMILAR = "/embed", "/embed_all", "/similarity"
OTHERS = (TOKENS, SIMILAR)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=number_between(1, 120), default=8.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)
    parser.add_argument("--callers", type=count_between(2, 1024), default=64)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    texts = workloads.texts(
        "short", workloads.load_sentences(args.sentences), seed=1, count=REQUESTS
    )
    means: dict[str, list[float]] = {}
    failed = 0
    with running(service("service"), args.cpus) as server:
        asked = {path: _requests(server.target, path, texts) for path in (VECTORS, TOKENS, SIMILAR)}
        loads: Mapping[str, Sequence[bytes]] = asked | {
            mixed(other): _half_and_half(asked[VECTORS], asked[other]) for other in OTHERS
        }
        for repeat in range(args.repeats):
            for name, requests in loads.items():
                before = _metrics(server)
                run = closedloop.drive(server.target, requests, args.callers, args.seconds)
                mean = mean_batch(before, _metrics(server))
                failed += sum(out.status != "200" for out in run.outcomes)
                means.setdefault(name, []).append(mean)
                record.raw(f"{name.replace('/', '')}-{repeat}", run)
                print(f"{repeat + 1}/{args.repeats} {name}: mean batch {mean:.1f}", flush=True)
    findings = []
    for other in OTHERS:
        # An answer that takes longer to write keeps its caller from asking: so either alone.
        fewer = [min(pair) for pair in zip(means[VECTORS], means[other], strict=True)]
        share = over(means[mixed(other)], fewer)
        need, ok = f">= {KEPT}", share >= KEPT
        of = f"{mixed(other)}: mean batch"
        findings.append(Finding(of, median(means[mixed(other)]), ideal=median(fewer)))
        findings.append(Finding(f"{of}, of the less of either alone", share, "x", need=need, ok=ok))
    findings.append(Finding("calls not answered 200", failed, need="0", ok=failed == 0))
    lines = [f"- {name}: {spread(values)}" for name, values in means.items()]
    return Measured(
        findings, "Inputs in a batch, medians (lowest to highest):\n\n" + "\n".join(lines)
    )


def mixed(other: str) -> str:
    return f"{VECTORS} and {other}"


def _requests(target: Target, path: str, texts: Sequence[str]) -> list[bytes]:
    """A similarity is of two texts, which are two inputs; no text is asked for twice."""

    def body(text: str, other: str) -> object:
        if path == SIMILAR:
            return {"inputs": {"source_sentence": text, "sentences": [f"{other} again"]}}
        return {"inputs": text}

    pairs = zip(texts, [*texts[1:], texts[0]], strict=True)
    return [target.post(path, json.dumps(body(*pair)).encode()) for pair in pairs]


def _half_and_half(one: Sequence[bytes], other: Sequence[bytes]) -> list[bytes]:
    """No text twice: equal ones would share a row."""
    return list(chain.from_iterable(zip(one[::2], other[1::2], strict=True)))


def _metrics(server: Server) -> Counters:
    status, body = server.get("/metrics")
    assert status == 200, f"/metrics answered {status}"
    return parse(body.decode())
