"""No body, however spoilt, gets anything but an error in JSON of 4xx, or the right answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher import Answer
from loadtests.drivers.target import Target
from loadtests.fuzz import inprocess
from loadtests.fuzz.inprocess import AtOnce, try_all
from loadtests.fuzz.mutations import Mutant, bodies, compress, written
from loadtests.fuzz.right_answers import fault
from loadtests.fuzz.run_mutations import Sent, send
from loadtests.fuzz.seeds import MODEL, VALID, seeds
from service.app import ROUTES
from service.errors import Problem
from tests.conftest import EFFORT
from tests.service.loopback import run, running, server_of

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = ("truncate", "normalize", "dimensions", "encoding_format", "user", "prompt_name")
# A route of each dialect: what it calls the inputs, and what it needs beside them.
_DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/embed": ("inputs", {}),
    "/similarity": ("inputs", {}),
    "/": ("inputs", {}),
    "/vertex": ("instances", {}),
    "/v1/embeddings": ("input", {"model": MODEL}),
    "/rerank": ("texts", {"query": "a"}),
    "/v1/rerank": ("documents", {"query": "a"}),
    "/score": ("text_2", {"text_1": "a"}),
    "/pooling": ("input", {}),
    "/v2/embed": ("texts", {}),
    "/api/embed": ("input", {}),
    "/infinity/embeddings": ("input", {}),
}


def valid(*tasks: str, coding: str = "") -> list[Mutant]:
    return [
        Mutant(task, path, compress(written(body), coding) if coding else written(body), coding)
        for task, path, body in seeds(*tasks)
    ]


def test_mutated_bodies_are_answered_and_none_with_an_error_of_ours() -> None:
    tried = asyncio.run(try_all(bodies(5000 * EFFORT)))
    assert tried.violations == []
    assert tried.count == 5000 * EFFORT
    assert tried.statuses[200] > 500  # some mutants are valid: more than the parser is tried
    assert tried.statuses[400] > 1000


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
def test_the_seeds_are_valid(coding: str) -> None:
    tried = asyncio.run(try_all(valid(coding=coding)))
    assert tried.violations == []
    assert set(tried.statuses) == {200}


def test_every_route_that_takes_a_body_has_a_seed() -> None:
    """Who adds a route adds what a client may say there, and to right_answers.py what is right.
    Those of one version of a model are the model's; those that are not offered take nothing."""
    posts = [route.path for route in ROUTES if route.method == "POST"]
    offered = [
        path
        for path in posts
        if not re.search("/versions/|trace|logging|memory|/models/{asked", path)
    ]
    wanted = {path.replace("{model}", MODEL) for path in offered}
    assert wanted == {path for paths in VALID.values() for path in paths}


def test_the_mutants_are_the_same_every_time() -> None:
    assert list(bodies(50)) == list(bodies(50))
    assert list(bodies(50)) != list(bodies(50, seed=2))
    assert {mutant.task for mutant in bodies(50, tasks=["tag"])} == {"tag"}


@settings(max_examples=25 * EFFORT)
@given(inputs=_JSON, options=st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=3))
@pytest.mark.parametrize("path", sorted(_DIALECTS))
def test_any_json_in_any_field_is_answered(path: str, inputs: Any, options: Any) -> None:
    name, beside = _DIALECTS[path]
    body = json.dumps({name: inputs, **beside, **options}).encode()
    tried = asyncio.run(try_all([Mutant("embed", path, body)]))
    assert tried.violations == []


def test_a_bug_behind_a_route_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise Problem(500, "broken")

    monkeypatch.setattr("service.state.fields", broken)
    tried = asyncio.run(try_all(bodies(300)))
    assert tried.violations


def test_mutants_over_a_socket_are_sent_answered_and_judged() -> None:
    sent = Sent()

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        target = Target("127.0.0.1", listener.getsockname()[1])
        front = inprocess.Application("embed").front
        async with running(front, server_of(front), listener):
            await send(target, 200, 1, sent)

    run(main())
    assert sent.violations == []
    assert sent.count == 200
    assert sent.bodies.total() == 100
    assert sent.bodies[200] > 5
    assert sent.whole[400] > 50


class AnsweredToOthers(AtOnce):
    """Each input gets the answer of another one, as if a batch were taken apart wrongly."""

    async def send(self, call: Any) -> list[Answer]:
        others = [f"{each} other" for each in call.payloads]
        return await super().send(call._replace(payloads=others))


@pytest.mark.parametrize("task", ["embed", "score", "classify", "sparse", "predict"])
def test_an_answer_to_another_input_would_be_seen(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inprocess, "AtOnce", AnsweredToOthers)
    monkeypatch.setattr(inprocess, "_SHOWN", 1000)
    asking = [each for each in valid(task) if b'prompt": ""' not in each.body]
    asking = [
        each
        for each in asking
        if each.path not in ("/embed_all", "/api/show", "/v2/repository/index")
    ]
    tried = asyncio.run(try_all(asking))
    seen = {violation.split()[1] for violation in tried.violations}
    assert seen == {each.path for each in asking}


_TWO = Mutant("embed", "/embed", b'{"inputs":["a","b"]}')


def right(mutant: Mutant) -> Any:
    async def ask() -> Any:
        application = inprocess.Application(mutant.task)
        try:
            return json.loads((await application.ask(mutant))[1])
        finally:
            application.front.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("mutant", "wrong"),
    [
        (_TWO, lambda rows: rows[::-1]),
        (_TWO, lambda rows: rows[:1]),
        (_TWO, lambda rows: [rows[0], rows[1][:4]]),
        (dataclasses.replace(_TWO, body=b'{"inputs":"a","dimensions":4}'), lambda rows: [rows]),
        (dataclasses.replace(_TWO, body=b"no JSON"), lambda rows: [[0.5]]),
        (dataclasses.replace(_TWO, coding="gzip"), lambda rows: rows),
    ],
    ids=["another order", "one is missing", "too short", "another size", "no JSON", "not gzip"],
)
def test_a_wrong_answer_is_known_as_such(mutant: Mutant, wrong: Any) -> None:
    told = wrong(right(_TWO))
    assert fault(_TWO, 200, json.dumps(right(_TWO)).encode()) is None
    assert fault(mutant, 200, json.dumps(told).encode()) is not None


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (503, b"{}"), (100, b"{}"), (400, b"no JSON"), (400, b"[]")]
)
def test_an_error_that_no_input_may_cause_is_known_as_such(status: int, body: bytes) -> None:
    assert fault(_TWO, status, body) is not None
    assert fault(_TWO, 422, b'{"error":"too long"}') is None
