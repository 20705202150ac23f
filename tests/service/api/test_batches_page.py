"""GET /stats/batches: what the last batches were, for whoever wonders about a slow answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.state import AppState
from tests.service.conftest import REPORT, FakeClient, is_tei_error, make_front


@pytest.fixture
def http(http: TestClient, engine: FakeClient) -> TestClient:
    """200 batches have run, one a second; the last one half a second ago."""
    engine.recent = [
        dataclasses.replace(REPORT, size=number, requests=number + 1, closed=800.5 + number)
        for number in range(200)
    ]
    return http


def sizes(answer: Any) -> list[int]:
    assert answer.status_code == 200
    return [batch["size"] for batch in answer.json()]


def test_a_batch_tells_all_there_is_to_know_of_it(http: TestClient) -> None:
    assert http.get("/stats/batches?limit=1").json() == [
        {
            "replica": 0,
            "size": 199,
            "requests": 200,
            "tokens": 480,
            "useful_tokens": 300,
            "padding_ratio": 0.375,
            "reason": "idle",
            "oldest_wait_ms": 3.1,
            "predicted_ms": 4.0,
            "inference_ms": 5.0,
            "closed_ago_s": 0.5,
        }
    ]


@pytest.mark.parametrize(("query", "count"), [("", 100), ("?limit=1", 1), ("?limit=4096", 200)])
def test_the_newest_come_first_and_no_more_than_asked_for(
    http: TestClient, query: str, count: int
) -> None:
    assert sizes(http.get(f"/stats/batches{query}")) == list(range(199, 199 - count, -1))


def test_before_the_first_batch_the_list_is_empty(http: TestClient, engine: FakeClient) -> None:
    engine.recent = []
    assert sizes(http.get("/stats/batches")) == []


@pytest.mark.parametrize("limit", ["0", "4097", "-1", "1.0", "ten", "", "%C2%B2", "9" * 5000])
def test_a_bad_limit_is_400_and_named(http: TestClient, limit: str) -> None:
    answer = http.get(f"/stats/batches?limit={limit}")
    assert answer.status_code == 400
    assert is_tei_error(answer.json())
    assert answer.json()["error"].startswith("limit: must be a whole number from 1 to 4096, not ")
    assert len(answer.json()["error"]) < 200


def test_it_needs_the_key_as_stats_does() -> None:
    with TestClient(create_app(make_front(FakeClient(), api_key="right"))) as http:
        assert http.get("/stats/batches").status_code == 401
        right = {"authorization": "Bearer right"}
        assert http.get("/stats/batches", headers=right).status_code == 200


def test_it_has_a_label_of_its_own_in_the_metrics(http: TestClient, front: AppState) -> None:
    http.get("/stats/batches?limit=3")
    assert front.tally.counts() == {("/stats/batches", "ok"): 1}


def test_it_is_described_as_it_answers(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    path = document["paths"]["/stats/batches"]
    answer = path["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["items"] == {"$ref": "#/components/schemas/BatchSummary"}
    described = document["components"]["schemas"]["BatchSummary"]["properties"]
    [told] = http.get("/stats/batches?limit=1").json()
    assert set(told) == set(described)
    [limit] = path["get"]["parameters"]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 4096)
