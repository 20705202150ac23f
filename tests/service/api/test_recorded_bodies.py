"""The bodies that programs send whose clients are not packages: read in their sources, at the
commits named in recorded_bodies.json."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

RECORDED = json.loads(Path(__file__).with_name("recorded_bodies.json").read_text("utf-8"))


def texts_of(recorded: dict[str, Any]) -> list[str]:
    body = recorded["body"]
    if "prompt" in body:
        return [body["prompt"]]
    if "chunks" in recorded:
        body["input"] = [f"chunk {place}" for place in range(recorded["chunks"])]
    return body.get("input", body.get("documents"))  # type: ignore[no-any-return]  # as recorded


def vectors_of(kind: str, answer: Any) -> list[Any]:
    match kind:
        case "openai":
            return [each["embedding"] for each in answer["data"]]
        case "base64":
            raw = [base64.b64decode(each["embedding"]) for each in answer["data"]]
            return [np.frombuffer(each, "<f4") for each in raw]
        case "ollama":
            return answer["embeddings"]  # type: ignore[no-any-return]  # as the client reads it
    return [answer["embedding"]]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["client"])
def test_a_body_as_a_program_sends_it_is_served(recorded: dict[str, Any], http: TestClient) -> None:
    texts = texts_of(recorded)
    answer = http.post(recorded["path"], json=recorded["body"], headers=recorded["headers"])
    assert answer.status_code == 200, answer.text
    if recorded["answer"] == "ranks":
        plain = {"query": recorded["body"]["query"], "texts": texts}
        wanted = http.post("/rerank", json=plain).json()
        got = answer.json()["results"]
        assert [each["index"] for each in got] == [each["index"] for each in wanted]
        scores = [each["score"] for each in wanted]
        assert [each["relevance_score"] for each in got] == pytest.approx(scores)
        assert answer.json()["usage"]["total_tokens"] > 0
        return
    normalize = recorded["answer"] != "ollama one"
    wanted = http.post("/embed", json={"inputs": texts, "normalize": normalize}).json()
    np.testing.assert_allclose(vectors_of(recorded["answer"], answer.json()), wanted, rtol=1e-5)
