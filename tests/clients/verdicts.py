"""Compares what a client was told with what the service answers to a plain request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np

from tests.clients.clients import Client

CLOSE = {"rtol": 1e-4, "atol": 2e-6}  # a text's batch-mates decide its last digits


@dataclass
class Verdicts:
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, client: Client, call: str, verdict: str) -> None:
        name = client.file.removesuffix(".py").removesuffix(".mjs").removesuffix("_calls")
        self.rows.append((name, client.versions, call.replace("_", " "), verdict))

    def markdown(self) -> str:
        head = "| client | versions | call | verdict |\n| --- | --- | --- | --- |\n"
        return head + "".join(f"| {' | '.join(row)} |\n" for row in self.rows)


def check(told: Mapping[str, Any], urls: Mapping[str, str]) -> str:
    """In words, what was compared. Raises AssertionError if the client got something else."""
    got = told["got"]
    match told["kind"]:
        case "vectors":
            body = {"inputs": told["texts"], "normalize": told["scaled"]}
            np.testing.assert_allclose(
                np.asarray(got, np.float64), ask(urls["embed"], "/embed", body), **CLOSE
            )
            return f"{len(told['texts'])} vectors as POST /embed answers them"
        case "ranks":
            body = {"query": told["query"], "texts": told["documents"]}
            wanted = ask(urls[told["model"]], "/rerank", body)
            assert got
            assert [place for place, _ in got] == [each["index"] for each in wanted][: len(got)]
            scores = [each["score"] for each in wanted][: len(got)]
            np.testing.assert_allclose([score for _, score in got], scores, **CLOSE)
            return f"{len(got)} ranks as POST /rerank answers them"
        case "post":
            assert_alike(got, ask(urls[told["model"]], told["path"], told["body"]))
            return f"as a plain POST {told['path']}"
        case "same":
            assert got == told["wanted"]
            return "right"
        case "refused":
            assert got, "it was not refused"
            assert [word for word in told["words"] if word not in got] == [], got
            return f"refused: {got[:160]}".replace("\n", " ").replace("|", "/")
    raise ValueError(told["kind"])


def ask(url: str, path: str, body: object) -> Any:
    answer = httpx2.post(url + path, json=body, timeout=60.0)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_alike(got: Any, wanted: Any) -> None:
    """A list of one answer is as good as the answer."""
    if isinstance(wanted, list) and len(wanted) == 1 and isinstance(wanted[0], list):
        wanted = wanted[0]
    if isinstance(wanted, dict):
        assert set(got) == set(wanted)
        for name, value in wanted.items():
            assert_alike(got[name], value)
    elif isinstance(wanted, list):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_alike(one, other)
    elif isinstance(wanted, float):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    else:
        assert got == wanted
