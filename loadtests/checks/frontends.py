"""Several HTTP processes before one engine: the same answers, and what the death of one costs.

`same`: answers and refusals beside those of one process. `front`, `engine`: SIGKILL under load, and
every request followed. `stopped`: SIGSTOP for the engine, which is to be noticed. `throughput`: two
frontends beside one process for all.
What "It survives" says of workers is `survival --frontends 2`, of the end `drain --frontends 2`.
"""

import argparse
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np

from loadtests.checks.sts import embed
from loadtests.drivers import closedloop, workloads
from loadtests.drivers.closedloop import CallRecord, post_all, record_calls
from loadtests.drivers.http_client import Answer
from loadtests.drivers.outcomes import OK
from loadtests.drivers.target import count_between, number_between
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, Measured, at_most, exactly, none, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, Variant, running, service
from loadtests.servers.process_roles import family, fronts

TITLE = "HTTP processes of their own: equal answers, deaths, and the throughput of one"
SIMULATED = {"runner": "simulated", "sim_fixed_ms": 20, "sim_per_item_ms": 0.3125}
FAST = {"runner": "simulated", "sim_fixed_ms": 2, "sim_per_item_ms": 0.02}
CLOSE = 1e-5  # float32, whatever the batch-mates.
SHARE = 0.9
BACK_SECONDS = 30.0
SMALL = 8
BAD = (b"{", b'{"inputs": []}', b'{"inputs": [-1]}', b'{"inputs": 5}', b'{"inputs": "a", "x": 1}')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS))
    parser.add_argument("--frontends", type=count_between(2, 64), default=2)
    parser.add_argument("--texts", type=count_between(1, 4096), default=512, help="of `same`")
    parser.add_argument("--callers", type=count_between(2, 512), default=64)
    parser.add_argument("--seconds", type=number_between(3, 60), default=8.0, help="of each run")
    parser.add_argument("--kills", type=count_between(1, 20), default=3, help="of each kind")
    parser.add_argument("--repeats", type=count_between(1, 15), default=3, help="of throughput")


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings, notes = [], []
    for name in args.only:
        began = time.monotonic()
        found, told = PARTS[name](args, record)
        findings += found
        notes.append(f"### {name}, {time.monotonic() - began:.0f} s\n\n{told}")
        print(notes[-1], *found, sep="\n", flush=True)
    return Measured(findings, "\n\n".join(notes))


def same(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    """The default model in float32, and bodies that are refused."""
    texts = workloads.texts("all", workloads.load_sentences(args.sentences), 1, args.texts)
    vectors, refusals = [], []
    for count in (1, args.frontends):
        with running(service(f"{count}", dtype="float32", frontends=count), args.cpus) as server:
            vectors.append(embed(server, texts))
            bodies = [body for body in BAD for _ in range(4)]  # Each front gets some of each.
            answered = post_all(server.target, "/embed", bodies)
            refusals.append([_plain(answer) for answer in answered])
    apart = float(np.abs(vectors[0] - vectors[1]).max())
    different = sum(one != other for one, other in zip(*refusals, strict=True))
    return [
        Finding(
            "same: largest difference of a number", apart, need=f"<= {CLOSE:g}", ok=apart <= CLOSE
        ),
        none("same: refusals with another status or body", different),
    ], f"{len(texts)} texts, {len(BAD)} bad bodies."


def _plain(answer: Answer) -> tuple[int, object]:
    document = json.loads(answer.body)
    document.pop("request_id", None)
    return answer.status, document


def front(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    kills: list[float] = []
    # Small batches: some of what a front leaves behind waits, and is to be cancelled.
    variant = service("fronts", frontends=args.frontends, max_batch_size=SMALL, **SIMULATED)
    with running(variant, args.cpus) as server:
        first = family(server)
        if len(first.fronts) != args.frontends:
            raise RuntimeError(f"{len(first.fronts)} HTTP processes are up, not {args.frontends}")

        def kill() -> None:
            kills.append(now())
            os.kill(fronts(first.top, first.engine)[0], signal.SIGKILL)

        asked = _followed(args, server, kill)
        _record(record, "front", asked)
        back = _until(lambda: len(family(server).fronts) == args.frontends)
        last, counts = family(server), _counts(server)
    found = bystanders(asked, args.kills)
    return [
        *found,
        none("front: of them in the engine or the workers", _changed(first, last)),
        at_most("front: back, after the end of the load", back, BACK_SECONDS, "s"),
        *conserved("front", counts),
        Finding(
            "front: of what it left behind, cancelled before it ran",
            counts["cancelled"],
            need="> 0",
            ok=counts["cancelled"] > 0,
        ),
    ], f"{args.callers} callers, {len(kills)} kills; {Counter(one.status for one in asked)}"


def engine(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    return _without_engine("engine", signal.SIGKILL, args, record)


def stopped(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    return _without_engine("stopped", signal.SIGSTOP, args, record)


def _without_engine(
    part: str, number: int, args: argparse.Namespace, record: Record
) -> tuple[list[Finding], str]:
    with running(service("fronts", frontends=args.frontends, **SIMULATED), args.cpus) as server:
        first, kills = family(server), list[float]()

        def kill() -> None:
            kills.append(now())
            os.kill(first.engine, number)

        def is_back(asked: Sequence[CallRecord]) -> bool:
            return any(one.status == OK and one.sent > kills[0] for one in reversed(asked))

        during = [(args.seconds / 3, kill)]
        asked = record_calls(server.target, args.callers, args.seconds, during, is_back)
        _record(record, part, asked)
        _until(lambda: server.get("/health/ready")[0] == 200)
        last, counts = family(server), _counts(server)
    told = f"{args.callers} callers; {dict(Counter(one.status for one in asked))}"
    return [
        *replaced(part, asked, kills[0]),
        exactly(f"{part}: another one", float(last.engine != first.engine), 1),
        exactly(
            f"{part}: fronts that lived on",
            len(set(first.fronts) & set(last.fronts)),
            args.frontends,
        ),
        *conserved(part, counts),
    ], told


def throughput(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    findings, lines = [], []
    for what, settings in (("default model", {}), ("2 ms + 20 us a request", FAST)):
        apart = service("apart", frontends=2, **settings)
        whole = service("whole", frontends=1, **settings)
        rates = _side_by_side(args, record, what, {"apart": apart, "whole": whole})
        findings.append(beside(what, rates["apart"], rates["whole"]))
        lines += [f"- {what}, {name}: {spread(values)}/s" for name, values in rates.items()]
    return findings, "\n".join(lines)


Part = Callable[[argparse.Namespace, Record], tuple[list[Finding], str]]
PARTS: Mapping[str, Part] = {
    "same": same,
    "front": front,
    "engine": engine,
    "stopped": stopped,
    "throughput": throughput,
}


def bystanders(asked: Sequence[CallRecord], kills: int) -> list[Finding]:
    """A front is told by its part of the ids of requests. Which one a caller was connected to, by
    the answers before: a connection stays with its front."""
    broken, last, cut = Counter[str](), dict[int, str](), dict[str, float]()
    strangers = refused = 0
    for one in asked:
        if one.front:
            last[one.caller] = one.front
        if one.status == OK:
            strangers += not one.is_right
        elif one.status == "closed":
            name = last.get(one.caller, "")
            broken[name] += 1
            cut[name] = one.answered
        else:
            refused += 1
    lived = {one.front for one in asked if one.sent > cut.get(one.front, one.sent)}
    served = {one.front for one in asked if one.status == OK}
    return [
        Finding("front: requests", len(asked)),
        none("front: 200 with another's vector", strangers),
        none("front: neither answered 200 nor cut off", refused),
        Finding("front: cut off with their connection", broken.total()),
        at_most("front: of different fronts", len(broken), kills),
        none("front: of fronts that answered later requests", len(lived)),
        Finding("front: HTTP processes that answered", len(served)),
    ]


def replaced(part: str, asked: Sequence[CallRecord], killed: float) -> list[Finding]:
    """What was in flight is answered 503; then it is again as before."""
    inflight = [one for one in asked if one.sent < killed <= one.answered]
    after = [one for one in asked if one.sent >= killed]
    good = [one.answered for one in after if one.status == OK]
    turned = [one for one in asked if one.status == "503"]
    back = min(good) - killed if good else float("inf")
    return [
        Finding(f"{part}: requests", len(asked)),
        Finding(f"{part}: in flight", len(inflight)),
        none(
            f"{part}: not answered 200 before it",
            sum(one.status != OK for one in asked if one.answered < killed),
        ),
        none(
            f"{part}: in flight, neither 200 nor 503",
            sum(one.status not in (OK, "503") for one in inflight),
        ),
        none(
            f"{part}: after it, neither 200 nor 503",
            sum(one.status not in (OK, "503") for one in after),
        ),
        Finding(f"{part}: answered 503", len(turned), need="> 0", ok=bool(turned)),
        none(f"{part}: of them without Retry-After", sum(not one.retry_after for one in turned)),
        none(
            f"{part}: 200 with another's vector",
            sum(one.status == OK and not one.is_right for one in asked),
        ),
        at_most(f"{part}: 200 again, after the kill", back, BACK_SECONDS, "s"),
    ]


def conserved(part: str, counts: Mapping[str, int]) -> list[Finding]:
    """Nothing that was accepted is still there or was lost: the orphans of a front, too."""
    ended = sum(counts[name] for name in ("ok", "failed", "expired", "cancelled"))
    return [
        none(f"{part}: accepted without an outcome in the counters", counts["accepted"] - ended)
    ]


def beside(what: str, apart: Sequence[float], whole: Sequence[float]) -> Finding:
    """The median of the rounds' ratios."""
    share = median(one / other for one, other in zip(apart, whole, strict=True))
    return Finding(
        f"throughput, {what}: two frontends, beside one process for all",
        share,
        "x",
        need=f">= {SHARE:g}",
        ok=share >= SHARE,
    )


def _followed(
    args: argparse.Namespace, server: Server, kill: Callable[[], None]
) -> list[CallRecord]:
    """Kills at even distances."""
    times = [args.seconds * (number + 1) / (args.kills + 1) for number in range(args.kills)]
    return record_calls(server.target, args.callers, args.seconds, [(time, kill) for time in times])


def _side_by_side(
    args: argparse.Namespace, record: Record, what: str, variants: Mapping[str, Variant]
) -> dict[str, list[float]]:
    texts = workloads.texts("short", workloads.load_sentences(args.sentences), seed=1)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    with running(variants["apart"], args.cpus) as one, running(variants["whole"], args.cpus) as two:
        for repeat in range(args.repeats):
            for name, server in (("apart", one), ("whole", two)):
                requests = [
                    server.target.post("/embed", workloads.embed_body(text)) for text in texts
                ]
                run = closedloop.drive(server.target, requests, args.callers, args.seconds)
                rates[name].append(closedloop.throughput(run))
                print(f"{repeat + 1}/{args.repeats} {what}, {name}: {rates[name][-1]:.1f}/s")
    return rates


def _changed(first: object, last: object) -> int:
    names = ("engine", "workers")
    return sum(getattr(first, name) != getattr(last, name) for name in names)


def _counts(server: Server) -> dict[str, int]:
    status, body = server.get("/stats")
    if status != 200:
        raise RuntimeError(f"/stats answered {status}")
    stats: dict[str, int] = json.loads(body)
    return stats


def _until(true: Callable[[], bool]) -> float:
    """Seconds. Another process tells its state only when asked. Raises TimeoutError."""
    began = now()
    while True:
        with contextlib.suppress(OSError, RuntimeError):  # Not there yet.
            if true():
                return now() - began
        if now() - began > BACK_SECONDS:
            raise TimeoutError(f"not as before within {BACK_SECONDS:g} s")
        time.sleep(0.05)


def _record(record: Record, name: str, asked: Sequence[CallRecord]) -> None:
    begin = min(one.sent for one in asked)
    lines = (
        f"{one.caller},{one.sent - begin:.6f},{one.answered - begin:.6f},{one.status},{one.front}"
        for one in asked
    )
    record.packed(
        f"{name}.csv", "caller,sent_s,answered_s,status,front\n" + "\n".join(lines) + "\n"
    )
