"""Clients as their registries have them, each against a real server process."""

from __future__ import annotations

import pytest

from tests.clients.clients import CLIENTS, Client
from tests.clients.servers import Servers
from tests.clients.verdicts import Verdicts, check


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.file)
def test_a_client_gets_what_a_plain_request_gets(
    client: Client, servers: Servers, verdicts: Verdicts
) -> None:
    if reason := client.environment.missing():
        verdicts.add(client, "all", f"not run: {reason}")
        pytest.skip(reason)
    urls = {model: servers[model].url for model in client.models}
    wrong = []
    calls = client.run(urls)
    assert calls
    for said in calls:
        try:
            assert "raised" not in said, said.get("raised")
            verdict = check(said["told"], urls)
        except AssertionError as error:
            verdict = f"missed: {str(error).strip().splitlines()[-1][:200]}".replace("|", "/")
            wrong.append(f"{said['call']}: {str(error)[-3000:]}")
        verdicts.add(client, said["call"], verdict)
    assert wrong == [], "\n\n".join(wrong)
