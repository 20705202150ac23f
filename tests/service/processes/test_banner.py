from __future__ import annotations

import asyncio
from dataclasses import replace

from batcher.collector import Collector
from batcher.limits import Limits
from batcher.runner import RunnerInfo
from service.catalog import simulated_model
from service.processes.banner import banner
from service.settings import Settings
from service.state import AppState
from service.tasks.plain_text import SimulatedTokenizer
from tests.fakes import FakeClock
from tests.service.conftest import FakeClient


def of(front: AppState) -> str:
    return banner(front.settings, front.model(), asyncio.run(front.client.snapshot()), 8000)


def test_a_cross_encoder_is_told_with_a_call_to_try(front: AppState) -> None:
    front.served = simulated_model("tests/tiny", "score", SimulatedTokenizer(), created=0)
    said = of(front)
    assert "answers   the relevance of texts to a query" in said
    assert "/rerank -H" in said
    assert '"texts": ' in said


def test_the_prompts_that_say_something_are_told(front: AppState) -> None:
    assert "prompts" not in of(front)
    prompts = {"query": "query: ", "document": "", "passage": "passage: "}
    front.served = replace(front.model(), prompts=prompts, default_prompt_name="passage")
    assert "prompts   query, passage (the default)\n" in of(front)


def test_several_replicas_are_told_with_their_places(front: AppState, engine: FakeClient) -> None:
    [line] = [line for line in of(front).splitlines() if "replicas" in line]
    assert line.endswith("1 of 1 up, isolation process")
    engine.up = False
    engine.collector = Collector(Limits(), FakeClock(), 3)
    engine.collector.replica_up(0, RunnerInfo(placed_on="cpu", cores="1-3"))
    engine.collector.replica_up(1, RunnerInfo(placed_on="cuda:1"))
    [line] = [line for line in of(front).splitlines() if "replicas" in line]
    assert line.endswith("2 of 3 up, isolation process: cpu cores 1-3, cuda:1, not up yet")


def test_the_url_and_the_call_say_how_the_service_is_reached(front: AppState) -> None:
    front.settings = Settings(host="0.0.0.0", tls_cert="cert.pem")
    assert "url       https://127.0.0.1:8000  (docs: https://127.0.0.1:8000/docs)" in of(front)
    front.settings = Settings(unix_socket="/run/a b.sock")
    assert "url       the unix socket /run/a b.sock\n" in of(front)
    assert "  curl --unix-socket '/run/a b.sock' http://localhost/" in of(front)
