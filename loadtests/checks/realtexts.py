"""Part of `lengths`: the default model and texts of mixed length, cut at 128 tokens."""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from tokenizers import Tokenizer

from loadtests.baselines import model as baseline
from loadtests.checks.padded import p99_of_long, skipped
from loadtests.drivers import closedloop, workloads
from loadtests.drivers.outcomes import OK, mean_batch
from loadtests.reports.finding import Finding, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Variant, running, service
from loadtests.servers.target import Target

MOST_TOKENS = 128
BATCH = 64
LONG = 0.05  # Of the texts: those over 60 words.
OURS, ALONE, FIFO = "ours", "no batching", "arrival order"
NEEDED = {ALONE: 2.2, FIFO: 3.0}  # Times the throughput of these.


def variants(threads: int) -> dict[str, Variant]:
    """All in float32, with the same threads for a forward."""
    same = {"threads": threads, "dtype": "float32"}
    arguments = ("--port={port}", f"--threads={threads}", f"--max-batch={BATCH}")
    return {
        OURS: service("ours", max_batch_size=BATCH, **same),
        ALONE: service("alone", max_batch_size=1, **same),
        FIFO: Variant("fifo", "loadtests.baselines.fifo", arguments),
    }


def real_texts(args: argparse.Namespace, record: Record) -> tuple[list[Finding], str]:
    sentences = workloads.load_sentences(args.sentences)
    rates: dict[str, list[float]] = defaultdict(list)
    waits: dict[str, list[float]] = defaultdict(list)
    for repeat in range(args.repeats):
        texts = cut(workloads.texts("mixed", sentences, args.seed + repeat))
        words = [len(text.split()) for text in texts]
        for name, variant in variants(args.threads).items():
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
