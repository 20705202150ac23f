"""Claims about the mixed traffic that is measured, and how it is judged."""

from __future__ import annotations

import asyncio
import json

from loadtests.checks import dialects
from loadtests.checks.dialects import DIALECTS, MIXED, Runs
from loadtests.drivers.target import Target
from loadtests.fuzz.inprocess import try_all
from loadtests.fuzz.mutations import Mutant
from loadtests.reports.finding import holds


def test_each_dialect_asks_for_the_vector_of_the_text() -> None:
    written = [json.dumps(dialects.body(path, "a text")).encode() for path in DIALECTS]
    asked = zip(DIALECTS, written, strict=True)
    tried = asyncio.run(try_all(Mutant("embed", path, body) for path, body in asked))
    assert tried.violations == []
    assert tried.statuses[200] == len(DIALECTS)


def test_mixed_traffic_has_all_texts_once_and_each_dialect_in_turn() -> None:
    loads = dialects.requests_of(Target("127.0.0.1", 1), [f"text {n}" for n in range(8)])
    paths = [request.split()[1].decode() for request in loads[MIXED]]
    assert paths == [*DIALECTS] * 2
    assert all(b"text %d" % n in request for n, request in enumerate(loads[MIXED]))


def test_fewer_in_a_batch_than_alone_are_a_miss() -> None:
    alone = {path: Runs([32.0], [800.0], [10.0], [250.0]) for path in DIALECTS}
    assert holds(dialects.judged({**alone, MIXED: Runs([31.5], [790.0], [9.9], [249.0])}))
    assert not holds(dialects.judged({**alone, MIXED: Runs([30.0], [790.0], [9.9], [249.0])}))
    assert not holds(dialects.judged({**alone, MIXED: Runs([31.5], [790.0], [9.9], [240.0])}))


def test_callers_of_two_speeds_are_compared_with_their_harmonic_mean() -> None:
    slow = Runs([32.0], [400.0], [10.0], [250.0])
    alone = {path: Runs([32.0], [800.0], [10.0], [250.0]) for path in DIALECTS} | {"/embed": slow}
    assert holds(dialects.judged({**alone, MIXED: Runs([32.0], [640.0], [10.0], [250.0])}))
    assert not holds(dialects.judged({**alone, MIXED: Runs([32.0], [600.0], [10.0], [250.0])}))
