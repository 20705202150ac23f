"""Texts and rankings asked for over HTTP, and how many of these are in another order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from loadtests.drivers import closedloop
from loadtests.servers.launch import Server

INPUTS = 32  # Texts in one HTTP request.
CALLERS = 4
QUERIES = 50
DOCUMENTS = 20  # Of each query.
CLOSE = 1e-4  # Relative to a score or weight; as much absolute where it is small.

Asked = tuple[str, Sequence[str]]  # a query and its documents


def batches(texts: Sequence[str]) -> list[Mapping[str, object]]:
    return [{"inputs": texts[at : at + INPUTS]} for at in range(0, len(texts), INPUTS)]


def questions(texts: Sequence[str]) -> list[Asked]:
    """Of each of the first texts, about those that follow it."""
    return [(texts[n], texts[n + 1 : n + 1 + DOCUMENTS]) for n in range(QUERIES)]


def query(asked: Asked, *, raw: bool = True) -> Mapping[str, object]:
    return {"query": asked[0], "texts": list(asked[1]), "raw_scores": raw}


def ask(server: Server, path: str, bodies: Sequence[Mapping[str, object]]) -> list[Any]:
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


def misordered(ranked: Sequence[Sequence[Mapping[str, Any]]], scores: Sequence[list[float]]) -> int:
    """A pair in another order counts where the reference's scores differ by more than rounding."""
    count = 0
    for rows, right in zip(ranked, scores, strict=True):
        found = [right[int(row["index"])] for row in rows]
        rises = (later - sooner for sooner, later in pairwise(found))
        count += any(rise > CLOSE * (1 + max(right)) for rise in rises)
    return count
