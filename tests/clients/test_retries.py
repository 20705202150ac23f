"""A client that retries never asks again for what cannot succeed, and is served after an overload:
the requests are counted by the server."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.clients.clients import CLIENTS, HERE, Client
from tests.clients.servers import Servers
from tests.clients.verdicts import Verdicts

_NEWEST, _NODE = (
    next(each.environment for each in CLIENTS if each.environment.name == name)
    for name in ("newest", "node")
)
RETRYING = (
    Client("retries.py", ["openai", "cohere"], _NEWEST),
    Client("retries.mjs", ["openai", "@langchain/openai", "ai", "cohere-ai"], _NODE),
)
CALLS = [
    (client, name)
    for client in RETRYING
    for name in re.findall(
        r"(\w+_(?:lasting|overload))\b", (HERE / "calls" / client.file).read_text("utf-8")
    )
]


@pytest.mark.parametrize(("client", "call"), CALLS, ids=lambda value: getattr(value, "file", value))
def test_a_client_that_retries(
    client: Client, call: str, servers: Servers, verdicts: Verdicts
) -> None:
    if reason := client.environment.missing():
        pytest.skip(reason)
    server = servers["busy"]
    before = requests_by_outcome(server.stats())
    [said] = client.run({"busy": server.url}, call)
    made = requests_by_outcome(server.stats()) - before
    assert "raised" not in said, said["raised"]
    told = said["told"]
    if call.endswith("lasting"):
        assert made.total() == told["calls"], made
        verdict = f"{told['calls']} calls that cannot succeed, as many requests"
    else:
        assert told["got"] == 1
        assert made["overloaded"] >= 1, made
        assert made["ok"] == 4, made  # three of others, and its own
        verdict = f"refused {made['overloaded']} times, then answered"
    verdicts.add(client, call, verdict)


def requests_by_outcome(stats: dict[str, dict[str, dict[str, int]]]) -> Counter[str]:
    """Of the routes that the clients call."""
    counted: Counter[str] = Counter()
    for route, outcomes in stats["http"].items():
        if "embed" in route or route == "other":
            counted.update(outcomes)
    return counted
