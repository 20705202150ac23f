"""Part of `lengths`: a simulated accelerator that pays for every padded token."""

import argparse
from collections.abc import Sequence

from loadtests.drivers import closedloop, workloads
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import OK, percentiles
from loadtests.reports.finding import Finding
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, Variant, running, service
from loadtests.theory import length_split as lengths
from loadtests.theory.length_split import Batched, Device

# Ten times the 4 ms and 4 us of the published table: the HTTP of two small cores is then noise.
DEVICE = Device(fixed=0.040, per_token=40e-6, limit=32)
SKIP = 3.0  # Seconds; the slowest batch takes 0.7 s.
LONGEST = 0.1  # Of the texts, the longest: they count as long.
JUDGED = "90/10"  # Whose throughput is.
PASSED_OVER = 8  # Batches that may be cut without a request whose turn it is.


def variants() -> tuple[Variant, Variant]:
    """Our service, and batching in arrival order."""
    device = {
        "sim_fixed_ms": DEVICE.fixed * 1e3,
        "sim_per_item_ms": 0.0,
        "sim_per_token_us": DEVICE.per_token * 1e6,
    }
    most = DEVICE.limit * lengths.MOST_WORDS
    ours = service(
        "ours",
        runner="simulated",
        max_batch_size=DEVICE.limit,
        max_batch_tokens=most,
        **device,
    )
    flags = [f"--{name.replace('_', '-')}={value:g}" for name, value in device.items()]
    arguments = ("--port={port}", f"--max-batch={DEVICE.limit}", *flags)
    return ours, Variant("fifo", "loadtests.baselines.fifo", arguments)


def padded(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    findings = []
    ours, fifo = variants()
    with running(ours, args.cpus) as first, running(fifo, args.cpus) as second:
        for name in args.mixes:  # Whichever is not driven is idle.
            words = lengths.mix(name, args.seed)
            runs = []
            for server, of in ((first, "ours"), (second, "fifo")):
                runs.append(_drive(server, words, args.callers, args.seconds))
                record.raw(f"{name.replace('/', '-')}-{of}", runs[-1])
                print(f"{name} {of}: {runs[-1].summary(skipped(runs[-1]))}", flush=True)
            findings += judged(name, words, runs[0], runs[1])
    notes = (
        f"Simulated: {DEVICE.fixed * 1e3:g} ms + {DEVICE.per_token * 1e6:g} us for each padded "
        f"token, at most {DEVICE.limit} texts, {args.callers} closed-loop callers, all texts "
        "different. The best split: pools of 128 of the same texts, sorted and cut by dynamic "
        "programming. FIFO is computed exactly for the same texts in their order, and measured on "
        "a plain server that batches in order of arrival (`loadtests.baselines.fifo`)."
    )
    return findings, notes


def judged(name: str, words: Sequence[int], ours: Run, fifo: Run) -> list[Finding]:
    """`words[n % len(words)]` is the length of each run's n-th request."""
    best, plain = lengths.split(words, DEVICE), lengths.in_order(words, DEVICE)
    share, rate = useful_share(words, ours), closedloop.throughput(ours, skipped(ours))
    plainly = closedloop.throughput(fifo, skipped(fifo))
    waited, others = (p99_of_long(words, run) for run in (ours, fifo))
    least = 2.5 if name == JUDGED else None
    return [
        Finding(
            f"{name}: share of the tokens that is no padding",
            share,
            ideal=best.useful_share,
            need=">= 0.9",
            ok=share >= 0.9 * best.useful_share,
        ),
        Finding(f"{name}: … in arrival order, computed", plain.useful_share),
        Finding(f"{name}: texts", rate, "/s", ideal=best.rate),
        _over(f"{name}: over arrival order, computed", rate, plain, least),
        Finding(f"{name}: over arrival order, measured", rate / plainly, "x"),
        Finding(
            f"{name}: p99 of the longest tenth, beside that in arrival order",
            waited,
            "s",
            ideal=others,
            need=f"<= that + {PASSED_OVER} batches",
            ok=0 < waited <= others + PASSED_OVER * DEVICE.limit / best.rate,
        ),
    ]


def _over(what: str, rate: float, plain: Batched, least: float | None) -> Finding:
    times = rate / plain.rate
    if least is None:
        return Finding(what, times, "x")
    return Finding(what, times, "x", need=f">= {least:g}", ok=times >= least)


def skipped(run: Run) -> float:
    """Seconds at its start that count for nothing."""
    return min(SKIP, run.seconds / 3)


def useful_share(words: Sequence[int], run: Run) -> float:
    """Of the tokens as run. Every answer speaks for its own words and for its share of its batch,
    as its Server-Timing has it."""
    useful = tokens = 0.0
    for number, out in enumerate(run.outcomes):
        if out.status == OK and out.scheduled >= run.begin + skipped(run) and out.batch_size:
            useful += words[number % len(words)]
            tokens += out.batch_tokens / out.batch_size
    return useful / tokens if tokens else 0.0


def p99_of_long(words: Sequence[int], run: Run, share: float = LONGEST) -> float:
    """Seconds, of the answers to the longest texts."""
    least = percentiles(words, (100 * (1 - share),))[0]
    latencies = [
        out.latency
        for number, out in enumerate(run.outcomes)
        if words[number % len(words)] >= least
        and out.status == OK
        and out.scheduled >= run.begin + skipped(run)
    ]
    return percentiles(latencies, (99,))[0]


def _drive(server: Server, words: Sequence[int], callers: int, seconds: float) -> Run:
    requests = [
        server.target.post("/embed", workloads.embed_body(lengths.text(number, count)))
        for number, count in enumerate(words)
    ]
    return closedloop.drive(server.target, requests, callers, seconds)
