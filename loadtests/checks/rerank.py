"""Does an embedding model rank texts by the cosine of the reference library's vectors? Over HTTP,
on real sentences; the default model unless another is named."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.checks.rankings import (
    CLOSE,
    DOCUMENTS,
    Asked,
    ask,
    misordered,
    query,
    questions,
)
from loadtests.checks.sts import distinct, read_pairs
from loadtests.drivers.target import count_between
from loadtests.reports.finding import Measured, at_most, none
from loadtests.reports.record import Record
from loadtests.servers.launch import running, service
from service.repository.locate import find_model
from service.settings import Settings

TITLE = "Reranking by an embedding model against the cosine of sentence-transformers' vectors"
MODEL = str(Settings.model_fields["model"].default)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=MODEL, help="a folder, or an id of the hub")
    parser.add_argument(
        "--most", type=count_between(4 * DOCUMENTS, 100_000), default=1000, help="sentences"
    )


def measure(args: argparse.Namespace, record: Record) -> Measured:
    texts = distinct(read_pairs(args.sentences))[: args.most]
    asked = questions(texts)
    settings = {"model": args.model, "dtype": "float32", "request_timeout_ms": 120_000}
    print(f"{len(asked)} rankings over HTTP", flush=True)
    with running(service("rerank", **settings), args.cpus) as server:
        raw = ask(server, "/rerank", [query(each) for each in asked])
        cut = ask(server, "/rerank", [query(each, raw=False) for each in asked])
    print("the same by the reference library", flush=True)
    right = _reference(args.model, asked)
    flat = [score for row in right for score in row]
    record.text("cosines.csv", "\n".join(["cosine", *map(str, flat)]) + "\n")
    above = [[max(score, 0.0) for score in row] for row in right]
    return Measured(
        [
            at_most("largest difference of a raw score from the cosine", _apart(raw, right), CLOSE),
            at_most("of a score from it, 0 where it is negative", _apart(cut, above), CLOSE),
            none("rankings in another order", misordered(raw, right)),
            none("of scores from 0 to 1", misordered(cut, above)),
        ],
        f"{len(asked)} queries of {DOCUMENTS} texts each; {np.mean(np.array(flat) < 0):.0%} of the"
        " cosines are negative.",
    )


def _reference(model: str, asked: Sequence[Asked]) -> list[list[float]]:
    """Of each text alone."""
    from sentence_transformers import SentenceTransformer  # 6 to 12 s

    encoder = SentenceTransformer(str(find_model(model)), device="cpu")
    known: dict[str, NDArray[np.float64]] = {}

    def vector(text: str) -> NDArray[np.float64]:
        if text not in known:
            made = encoder.encode(text, show_progress_bar=False).astype(np.float64)
            known[text] = made / np.linalg.norm(made)
        return known[text]

    return [[float(vector(one) @ vector(text)) for text in found] for one, found in asked]


def _apart(ranked: Sequence[Sequence[Mapping[str, Any]]], right: Sequence[list[float]]) -> float:
    return max(
        abs(float(row["score"]) - scores[int(row["index"])])
        for rows, scores in zip(ranked, right, strict=True)
        for row in rows
    )
