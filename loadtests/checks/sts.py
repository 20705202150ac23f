"""Do the vectors mean what they should? Spearman correlation with human judgement, over HTTP."""

import argparse
import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.drivers import closedloop
from loadtests.drivers.target import setting_argument
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, Variant, running, service

TITLE = "Semantic textual similarity through POST /v1/embeddings"
PUBLISHED = 85.39  # all-MiniLM-L6-v2 on the five files of SemEval-2015, float32.
TOLERANCE = {"float32": 0.05, "bfloat16": 0.15, "int8": 0.5}
BACKENDS = {"int8": "onnx"}  # Where it is not the service's to choose.
INPUTS = 32  # Texts in one HTTP request.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype", choices=TOLERANCE, action="append", help="repeatable; default: all"
    )
    parser.add_argument("--set", type=setting_argument, action="append", default=[])


def measure(args: argparse.Namespace, record: Record) -> Measured:
    pairs = read_pairs(args.sentences)
    findings, notes = [], [f"{len(pairs)} scored pairs."]
    for dtype in args.dtype or TOLERANCE:
        print(f"{len(pairs)} scored pairs, {dtype}", flush=True)
        with running(variant(dtype, dict(args.set)), args.cpus) as server:
            facts = _facts(server)
            first = embed(server, [pair[1] for pair in pairs])
            second = embed(server, [pair[2] for pair in pairs])
        cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1)
        cosines /= np.linalg.norm(second, axis=1)
        lines = (f"{pair[0]},{cosine:.8f}" for pair, cosine in zip(pairs, cosines, strict=True))
        record.text(f"{dtype}.csv", "score,cosine\n" + "\n".join(lines) + "\n")
        measured = 100 * spearman([pair[0] for pair in pairs], cosines.tolist())
        tolerance = TOLERANCE[dtype]
        notes.append(f"- {dtype}: {facts}")
        findings.append(
            Finding(
                f"Spearman x100, {dtype}",
                measured,
                ideal=PUBLISHED,
                need=f"± {tolerance}",
                ok=abs(measured - PUBLISHED) <= tolerance,
            )
        )
    return Measured(findings, "\n".join(notes))


def variant(dtype: str, settings: Mapping[str, str]) -> Variant:
    named = {"backend": BACKENDS[dtype]} if dtype in BACKENDS else {}
    return service(dtype, **{**named, "dtype": dtype, "request_timeout_ms": 120_000, **settings})


def read_pairs(folder: Path | None) -> list[tuple[float, str, str]]:
    """Pairs of every TSV file (score, sentence, sentence) but those with an empty score."""
    if folder is None:
        raise ValueError("this check needs --sentences: a folder of scored pairs")
    pairs = []
    for path in sorted(folder.glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines():
            score, first, second = line.split("\t")[:3]
            if score.strip():
                pairs.append((float(score), first.strip(), second.strip()))
    if not pairs:
        raise ValueError(f"{folder}: no scored pairs in *.tsv files there")
    return pairs


def distinct(pairs: Sequence[tuple[float, str, str]]) -> list[str]:
    """Their sentences, each once, in order."""
    return list(dict.fromkeys(text for pair in pairs for text in pair[1:]))


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Rank correlation; equal values share the mean of their ranks."""
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks


def _facts(server: Server) -> str:
    """What answers, by its own account: a dtype that could not be had must not pass for it."""
    status, body = server.get("/stats")
    assert status == 200, f"/stats answered {status}"
    facts = json.loads(body)["replicas"][0]["facts"]
    return ", ".join(f"{name} {facts[name]}" for name in ("backend", "dtype") if name in facts)


def embed(server: Server, texts: Sequence[str]) -> NDArray[np.float64]:
    """A row for each text, through the route and the encoding that the official clients use."""
    status, models = server.get("/v1/models")
    assert status == 200, f"/v1/models answered {status}"
    name = json.loads(models)["data"][0]["id"]
    requests = []
    for first in range(0, len(texts), INPUTS):
        body = {"model": name, "input": texts[first : first + INPUTS], "encoding_format": "base64"}
        requests.append(server.target.post("/v1/embeddings", json.dumps(body).encode()))
    run = closedloop.drive(
        server.target, requests, callers=2, seconds=600, most=len(requests), keep_bodies=True
    )
    rows = []
    for outcome in run.outcomes:
        if outcome.status != "200":
            raise RuntimeError(f"answered {outcome.status}: {outcome.body[:500]!r}")
        answers = sorted(json.loads(outcome.body)["data"], key=lambda answer: int(answer["index"]))
        rows += [np.frombuffer(base64.b64decode(answer["embedding"]), "<f4") for answer in answers]
    if len(rows) != len(texts):
        raise RuntimeError(f"{len(texts)} texts were answered by {len(rows)} vectors")
    return np.asarray(rows, dtype=np.float64)
