"""Do texts of mixed length cost what they must? On a simulated accelerator and the real model.

`simulated`: where a padded token costs, against the best split of 128 sorted texts and against
arrival order. `real`: the default model, against no batching and against arrival order.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from tokenizers import Tokenizer

from loadtests.baselines import model as baseline
from loadtests.drivers import closedloop, workloads
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import OK, mean_batch, percentiles
from loadtests.drivers.target import Target, count_between, number_between
from loadtests.reports.finding import Finding, Measured, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, Variant, running, service
from loadtests.theory import length_split
from loadtests.theory.length_split import MIXES, Batched, Device

# Ten times the 4 ms and 4 us of the published table: the HTTP of two small cores is then noise.
DEVICE = Device(fixed=0.040, per_token=40e-6, limit=32)
SKIP = 3.0  # Seconds; the slowest batch takes 0.7 s.
LONGEST = 0.1  # Of the texts, the longest: they count as long.
JUDGED = "90/10"  # Whose throughput is.
PASSED_OVER = 8  # Batches that may be cut without a request whose turn it is.


def simulated_variants() -> tuple[Variant, Variant]:
    """Our service, and batching in arrival order."""
    device = {
        "sim_fixed_ms": DEVICE.fixed * 1e3,
        "sim_per_item_ms": 0.0,
        "sim_per_token_us": DEVICE.per_token * 1e6,
    }
    most = DEVICE.limit * length_split.MOST_WORDS
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


def simulated_lengths(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    findings = []
    ours, fifo = simulated_variants()
    with running(ours, args.cpus) as first, running(fifo, args.cpus) as second:
        for name in args.mixes:  # Whichever is not driven is idle.
            words = length_split.mix(name, args.seed)
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
    best, plain = length_split.split(words, DEVICE), length_split.in_order(words, DEVICE)
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
        server.target.post("/embed", workloads.embed_body(length_split.text(number, count)))
        for number, count in enumerate(words)
    ]
    return closedloop.drive(server.target, requests, callers, seconds)


MOST_TOKENS = 128
BATCH = 64
LONG = 0.05  # Of the texts: those over 60 words.
OURS, ALONE, FIFO = "ours", "no batching", "arrival order"
NEEDED = {ALONE: 2.2, FIFO: 3.0}  # Times the throughput of these.


def real_variants(threads: int) -> dict[str, Variant]:
    """All in float32, with the same threads for a forward."""
    same = {"threads": threads, "dtype": "float32"}
    arguments = ("--port={port}", f"--threads={threads}", f"--max-batch={BATCH}")
    return {
        OURS: service("ours", max_batch_size=BATCH, **same),
        ALONE: service("alone", max_batch_size=1, **same),
        FIFO: Variant("fifo", "loadtests.baselines.fifo", arguments),
    }


def real_model(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    sentences = workloads.load_sentences(args.sentences)
    rates: dict[str, list[float]] = defaultdict(list)
    waits: dict[str, list[float]] = defaultdict(list)
    for repeat in range(args.repeats):
        texts = cut(workloads.texts("mixed", sentences, args.seed + repeat))
        words = [len(text.split()) for text in texts]
        for name, variant in real_variants(args.threads).items():
            with running(variant, args.cpus) as server:
                run = closedloop.drive(
                    server.target, _requests(server.target, texts), args.real_callers, args.seconds
                )
            record.raw(f"real-{variant.name}-{repeat}", run)
            rates[name].append(closedloop.throughput(run, skipped(run)))
            waits[name].append(p99_of_long(words, run, LONG))
            mean = mean_batch([out for out in run.outcomes if out.status == OK])
            print(
                f"{repeat + 1}/{args.repeats} {name}: {rates[name][-1]:.1f}/s, mean batch "
                f"{mean:.1f}, p99 of long texts {waits[name][-1]:.2f} s",
                flush=True,
            )
    findings = []
    for name, least in NEEDED.items():
        times = median(rates[OURS]) / median(rates[name])
        findings.append(
            Finding(
                f"real model: throughput, over {name}",
                times,
                "x",
                need=f">= {least:g}",
                ok=times >= least,
            )
        )
    findings.append(
        Finding(
            "real model: p99 of texts over 60 words, beside that in arrival order",
            median(waits[OURS]),
            "s",
            ideal=median(waits[FIFO]),
            need="<= 1",
            ok=0 < median(waits[OURS]) <= median(waits[FIFO]),
        )
    )
    lines = [
        f"- {name}: {spread(rates[name])}/s; p99 of texts over 60 words {spread(waits[name])} s"
        for name in rates
    ]
    notes = (
        f"Real model: {args.real_callers} closed-loop callers, texts of 16 words median, 5 % over "
        f"60, cut at {MOST_TOKENS} tokens; float32, {args.threads} threads a forward, batches of "
        f"at most {BATCH}. Medians of interleaved repeats (lowest to highest):\n\n"
    )
    return findings, notes + "\n".join(lines)


def cut(texts: Iterable[str]) -> list[str]:
    """Each at the last word that is wholly within the tokens allowed; equal ones only once."""
    tokenizer = Tokenizer.from_file(str(baseline.default_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    return list(dict.fromkeys(_within(tokenizer, text) for text in texts))


def _within(tokenizer: Tokenizer, text: str) -> str:
    encoded = tokenizer.encode(text)
    if not encoded.overflowing:
        return text
    end = encoded.offsets[-2][1]  # The last is the closing special token.
    whole = text[:end] if text[end].isspace() else text[:end].rpartition(" ")[0]
    return whole or text[:end]


def _requests(target: Target, texts: Iterable[str]) -> list[bytes]:
    return [target.post("/embed", workloads.embed_body(text)) for text in texts]


TITLE = "Texts of mixed length: padding and throughput, against the best split and arrival order"
Part = Callable[[argparse.Namespace, Record], tuple[list[Finding], str]]
PARTS: Mapping[str, Part] = {"simulated": simulated_lengths, "real": real_model}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS))
    parser.add_argument("--mixes", choices=MIXES, nargs="*", default=list(MIXES))
    parser.add_argument("--seconds", type=number_between(3, 300), default=20.0, help="of each run")
    parser.add_argument(
        "--callers", type=count_between(1, 1024), default=256, help="of the accelerator"
    )
    parser.add_argument(
        "--real-callers", type=count_between(1, 1024), default=64, help="of the real model"
    )
    parser.add_argument("--repeats", type=count_between(1, 9), default=3, help="of the real model")
    parser.add_argument(
        "--threads", type=count_between(1, 256), default=1, help="of each forward of it"
    )
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings, notes = [], []
    for name in args.only:
        found, told = PARTS[name](args, record)
        findings += found
        notes.append(told)
    return Measured(findings, "\n\n".join(notes))
