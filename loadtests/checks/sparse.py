"""Are a sparse encoder's weights, and the order that it gives to texts, those of the reference
library? Over HTTP, on real sentences."""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.checks.sts import read_pairs, spearman
from loadtests.drivers import closedloop
from loadtests.drivers.target import count_between
from loadtests.reports.finding import Finding, Measured, at_most, none
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, running, service

TITLE = "Sparse vectors and reranking against sentence-transformers' SparseEncoder"
INPUTS = 32  # Texts in one HTTP request.
CALLERS = 4
QUERIES = 50
DOCUMENTS = 20  # Of each query.
CLOSE = 1e-4  # Relative to a weight; as much absolute where it is small.

Weights = Mapping[int, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="a folder, or an id of the hub")
    parser.add_argument(
        "--most", type=count_between(DOCUMENTS, 100_000), default=1000, help="sentences"
    )


def measure(args: argparse.Namespace, record: Record) -> Measured:
    if args.sentences is None:
        raise ValueError("this check needs --sentences: a folder of scored pairs")
    pairs = read_pairs(args.sentences)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair[1:]))[: args.most]
    asked = [(texts[n], texts[n + 1 : n + 1 + DOCUMENTS]) for n in range(QUERIES)]
    settings = {"model": str(args.model), "task": "sparse", "dtype": "float32"}
    print(f"{len(texts)} sentences over HTTP", flush=True)
    with running(service("sparse", **settings, request_timeout_ms=120_000), args.cpus) as server:
        served = [_weights(row) for row in _ask(server, "/embed_sparse", _batches(texts))]
        ranked = _ask(server, "/rerank", [_query(query, found) for query, found in asked])
    print("the same by the reference library", flush=True)
    expected, scores = _reference(str(args.model), texts, asked)
    words = [len(weights) for weights in expected]
    judged = [(score, pair) for score, *pair in pairs if set(pair) <= set(texts)]
    known = dict(zip(texts, served, strict=True))
    human, ours = zip(*[(s, _dot(known[a], known[b])) for s, (a, b) in judged], strict=True)
    record.text("words.csv", "\n".join(map(str, ["words", *words])) + "\n")
    findings = [
        at_most("largest difference of a weight, of 1 + its size", _apart(served, expected), CLOSE),
        none("rankings in another order", _misordered(ranked, scores)),
        Finding("words with a weight, median", float(np.median(words))),
        Finding("Spearman x100 of the dot products", 100 * spearman(human, ours)),
    ]
    return Measured(findings, f"{len(texts)} sentences, {len(asked)} queries.")


def _reference(
    model: str, texts: Sequence[str], asked: Sequence[tuple[str, Sequence[str]]]
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
        [float(encoder.similarity(vectors[query], vectors[text])) for text in found]
        for query, found in asked
    ]
    return rows, scores


def _batches(texts: Sequence[str]) -> list[Mapping[str, object]]:
    return [{"inputs": texts[at : at + INPUTS]} for at in range(0, len(texts), INPUTS)]


def _query(query: str, found: Sequence[str]) -> Mapping[str, object]:
    return {"query": query, "texts": list(found), "raw_scores": True}


def _ask(server: Server, path: str, bodies: Sequence[Mapping[str, object]]) -> list[Any]:
    """What is in the lists that were answered, one behind the other; of rankings the lists."""
    requests = [server.target.post(path, json.dumps(body).encode()) for body in bodies]
    run = closedloop.drive(
        server.target, requests, CALLERS, seconds=600, most=len(requests), keep_bodies=True
    )
    answers = []
    for outcome in run.outcomes:
        if outcome.status != "200":
            raise RuntimeError(f"{path} answered {outcome.status}: {outcome.body[:500]!r}")
        answers.append(json.loads(outcome.body))
    return answers if path == "/rerank" else [row for answer in answers for row in answer]


def _weights(row: Sequence[Mapping[str, Any]]) -> Weights:
    return {int(one["index"]): float(one["value"]) for one in row}


def _apart(served: Sequence[Weights], expected: Sequence[Weights]) -> float:
    return max(
        abs(ours.get(word, 0.0) - theirs.get(word, 0.0)) / (1 + theirs.get(word, 0.0))
        for ours, theirs in zip(served, expected, strict=True)
        for word in ours.keys() | theirs.keys()
    )


def _misordered(
    ranked: Sequence[Sequence[Mapping[str, Any]]], scores: Sequence[list[float]]
) -> int:
    """A pair in another order counts where the reference's scores differ by more than rounding."""
    count = 0
    for rows, right in zip(ranked, scores, strict=True):
        found = [right[int(row["index"])] for row in rows]
        rises = (later - sooner for sooner, later in pairwise(found))
        count += any(rise > CLOSE * (1 + max(right)) for rise in rises)
    return count


def _dot(one: Weights, other: Weights) -> float:
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())
