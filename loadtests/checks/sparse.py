"""Are a sparse encoder's weights, and the order that it gives to texts, those of the reference
library? Over HTTP, on real sentences."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.checks.rankings import (
    CLOSE,
    DOCUMENTS,
    Asked,
    ask,
    batches,
    misordered,
    query,
    questions,
)
from loadtests.checks.sts import distinct, read_pairs, spearman
from loadtests.drivers.target import count_between
from loadtests.reports.finding import Finding, Measured, at_most, none
from loadtests.reports.record import Record
from loadtests.servers.launch import running, service

TITLE = "Sparse vectors and reranking against sentence-transformers' SparseEncoder"

Weights = Mapping[int, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="a folder, or an id of the hub")
    parser.add_argument(
        "--most", type=count_between(DOCUMENTS, 100_000), default=1000, help="sentences"
    )


def measure(args: argparse.Namespace, record: Record) -> Measured:
    pairs = read_pairs(args.sentences)
    texts = distinct(pairs)[: args.most]
    asked = questions(texts)
    settings = {"model": str(args.model), "task": "sparse", "dtype": "float32"}
    print(f"{len(texts)} sentences over HTTP", flush=True)
    with running(service("sparse", **settings, request_timeout_ms=120_000), args.cpus) as server:
        served = [_weights(row) for row in ask(server, "/embed_sparse", batches(texts))]
        ranked = ask(server, "/rerank", [query(each) for each in asked])
    print("the same by the reference library", flush=True)
    expected, scores = _reference(str(args.model), texts, asked)
    words = [len(weights) for weights in expected]
    judged = [(score, pair) for score, *pair in pairs if set(pair) <= set(texts)]
    known = dict(zip(texts, served, strict=True))
    human, ours = zip(*[(s, _dot(known[a], known[b])) for s, (a, b) in judged], strict=True)
    record.text("words.csv", "\n".join(map(str, ["words", *words])) + "\n")
    findings = [
        at_most("largest difference of a weight, of 1 + its size", _apart(served, expected), CLOSE),
        none("rankings in another order", misordered(ranked, scores)),
        Finding("words with a weight, median", float(np.median(words))),
        Finding("Spearman x100 of the dot products", 100 * spearman(human, ours)),
    ]
    return Measured(findings, f"{len(texts)} sentences, {len(asked)} queries.")


def _reference(
    model: str, texts: Sequence[str], asked: Sequence[Asked]
) -> tuple[list[Weights], list[list[float]]]:
    """Of each text alone: what it answers moves a little when it batches."""
    from sentence_transformers import SparseEncoder  # 6 to 12 s

    encoder = SparseEncoder(model, device="cpu")
    vectors = {
        text: encoder.encode(text, convert_to_sparse_tensor=False, show_progress_bar=False)
        for text in texts
    }
    rows: list[Weights] = []
    for text in texts:
        words = vectors[text].nonzero().flatten().tolist()
        rows.append({word: float(vectors[text][word]) for word in words})
    scores = [
        [float(encoder.similarity(vectors[one], vectors[text])) for text in found]
        for one, found in asked
    ]
    return rows, scores


def _weights(row: Sequence[Mapping[str, Any]]) -> Weights:
    return {int(one["index"]): float(one["value"]) for one in row}


def _apart(served: Sequence[Weights], expected: Sequence[Weights]) -> float:
    return max(
        abs(ours.get(word, 0.0) - theirs.get(word, 0.0)) / (1 + theirs.get(word, 0.0))
        for ours, theirs in zip(served, expected, strict=True)
        for word in ours.keys() | theirs.keys()
    )


def _dot(one: Weights, other: Weights) -> float:
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())
