"""Does batching pay? 64 closed-loop callers, with it and with BATCHER_MAX_BATCH_SIZE=1."""

import argparse
from collections import defaultdict
from statistics import median

from loadtests.drivers import closedloop, workloads
from loadtests.drivers.outcomes import mean_batch
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import running, service

TITLE = "Batching against no batching: 64 closed-loop callers, the default model"
SKIP = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--callers", type=count_between(1, 1024), default=64)
    parser.add_argument("--seconds", type=number_between(3, 120), default=12.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)
    parser.add_argument("--batch", type=count_between(2, 1024), default=64, help="max_batch_size")


def measure(args: argparse.Namespace, record: Record) -> Measured:
    sentences = workloads.load_sentences(args.sentences)
    rates: dict[tuple[int, str], list[float]] = defaultdict(list)
    batches: dict[str, list[float]] = defaultdict(list)
    variants = {size: service(f"batch-{size}", max_batch_size=size) for size in (args.batch, 1)}
    for repeat in range(args.repeats):
        for size, variant in variants.items():
            with running(variant, args.cpus) as server:
                for kind in ("short", "mixed"):
                    texts = workloads.texts(kind, sentences, seed=repeat)
                    requests = [
                        server.target.post("/embed", workloads.embed_body(text)) for text in texts
                    ]
                    run = closedloop.drive(server.target, requests, args.callers, args.seconds)
                    record.raw(f"{kind}-{variant.name}-{repeat}", run)
                    rates[size, kind].append(closedloop.throughput(run, SKIP))
                    mean = mean_batch([out for out in run.outcomes if out.status == "200"])
                    if size > 1:
                        batches[kind].append(mean)
                    print(
                        f"{repeat + 1}/{args.repeats} {kind:5} max batch {size:3}: "
                        f"{rates[size, kind][-1]:.1f}/s, mean batch {mean:.1f}",
                        flush=True,
                    )
    findings = []
    for kind in ("short", "mixed"):
        batched, alone = median(rates[args.batch, kind]), median(rates[1, kind])
        judged = kind == "short"
        findings += [
            Finding(
                f"{kind}: throughput, batched over unbatched",
                batched / alone,
                "x",
                need=">= 2.5" if judged else "",
                ok=batched / alone >= 2.5 if judged else None,
            ),
            Finding(
                f"{kind}: mean batch",
                median(batches[kind]),
                need=">= 16" if judged else "",
                ok=median(batches[kind]) >= 16 if judged else None,
            ),
        ]
    lines = [
        f"- {kind}, max batch {size}: {spread(values)}/s" for (size, kind), values in rates.items()
    ]
    return Measured(
        findings, "Medians of interleaved repeats (lowest to highest):\n\n" + "\n".join(lines)
    )
