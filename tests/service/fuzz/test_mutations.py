"""No body, however spoilt, gets anything but an answer in JSON of 200 or 4xx."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.fuzz.inprocess import Application
from loadtests.fuzz.mutations import MODEL, VALID, Mutant, bodies
from service.errors import Problem
from tests.conftest import EFFORT

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = ("truncate", "normalize", "dimensions", "encoding_format", "user", "prompt_name")


def test_mutated_bodies_are_answered_and_none_with_an_error_of_ours() -> None:
    tried = asyncio.run(Application().try_all(bodies(6000 * EFFORT)))
    assert tried.violations == []
    assert tried.count == 6000 * EFFORT
    assert tried.statuses[200] > 100  # some mutants are valid: more than the parser is tried
    assert tried.statuses[400] > 1000


@pytest.mark.parametrize("path", sorted(VALID))
def test_the_seeds_are_valid(path: str) -> None:
    mutants = [Mutant(path, json.dumps(body).encode()) for body in VALID[path]]
    tried = asyncio.run(Application().try_all(mutants))
    assert set(tried.statuses) == {200}


def test_the_mutants_are_the_same_every_time() -> None:
    assert list(bodies(50)) == list(bodies(50))
    assert list(bodies(50)) != list(bodies(50, seed=2))


@settings(max_examples=60 * EFFORT)
@given(inputs=_JSON, options=st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=3))
@pytest.mark.parametrize("path", sorted(VALID))
def test_any_json_in_any_field_is_answered(path: str, inputs: Any, options: Any) -> None:
    name = {"/v1/embeddings": "input", "/rerank": "texts"}.get(path, "inputs")
    named = {"/v1/embeddings": {"model": MODEL}, "/rerank": {"query": "a"}}.get(path, {})
    body = json.dumps({name: inputs, **named, **options}).encode()
    tried = asyncio.run(Application().try_all([Mutant(path, body)]))
    assert tried.violations == []


def test_a_bug_behind_a_route_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise Problem(500, "broken")

    monkeypatch.setattr("service.state.fields", broken)
    tried = asyncio.run(Application().try_all(bodies(300)))
    assert tried.violations
