"""What a request costs the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.app import create_app
from service.settings import Settings
from service.state import AppState
from tests.fakes import run_async
from tests.service.conftest import FakeClient


def test_no_request_looks_for_the_running_loop_by_way_of_its_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a system call, before Python 3.12."""
    app = create_app(AppState(Settings(), FakeClient()))  # type: ignore[arg-type]  # a fake
    scope = {"type": "http", "method": "GET", "path": "/health/live", "headers": []}
    asked: list[str] = []
    current_task = asyncio.current_task

    def counted(loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Task[Any] | None:
        if loop is None:
            asked.append("current_task")
        return current_task(loop)

    answered: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answered.append(message["status"])

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def request_twice() -> None:
        monkeypatch.setattr(asyncio, "current_task", counted)
        for _ in range(2):
            await app(dict(scope), receive, send)

    run_async(request_twice())
    assert (answered, asked) == ([200, 200], [])
