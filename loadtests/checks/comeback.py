"""The official OpenAI client meets a full queue: a burst of calls, and every attempt of each."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from loadtests.drivers.timer import now
from loadtests.servers.target import Target
from service.models.simulated import answers

if TYPE_CHECKING:
    import httpx2
    import openai

EARLY_SECONDS = 0.001  # Of rounding, between our clock and the client's sleep.
TIMEOUT = 60.0


@dataclass(slots=True)
class Attempt:
    """One HTTP request. `retry_after` is what its answer said, in seconds; 0: nothing. `header` is
    the coarser of the two ways to say it, as written."""

    sent: float
    answered: float = 0.0
    status: int = 0
    retry_after: float = 0.0
    header: str | None = None


@dataclass(slots=True)
class Call:
    """One call of the client, with all its attempts. `ended` counts from the start of the burst."""

    text: str
    attempts: list[Attempt] = field(default_factory=list)
    is_right: bool = False  # It ended with this text's own vector.
    error: str = ""
    ended: float = 0.0

    @property
    def refusals(self) -> int:
        return sum(attempt.status == 429 for attempt in self.attempts)

    @property
    def was_early(self) -> bool:
        """Did it come back before it was told to?"""
        return any(
            later.sent < earlier.answered + earlier.retry_after - EARLY_SECONDS
            for earlier, later in pairwise(self.attempts)
        )


def burst(target: Target, texts: Sequence[str]) -> list[Call]:
    """All calls at once, of different texts, with the client's default retries."""
    return asyncio.run(_burst(target, texts))


async def _burst(target: Target, texts: Sequence[str]) -> list[Call]:
    import openai  # Slow to import, and not needed to serve: only where it is used.

    calls = {text: Call(text) for text in texts}

    async def sending(request: "httpx2.Request") -> None:
        calls[_text(request)].attempts.append(Attempt(now()))

    async def answered(response: "httpx2.Response") -> None:
        attempt = calls[_text(response.request)].attempts[-1]
        attempt.answered, attempt.status = now(), response.status_code
        attempt.retry_after = _retry_after(response)
        attempt.header = response.headers.get("retry-after")

    began = now()
    async with openai.AsyncOpenAI(
        base_url=f"{target.url}/v1",
        api_key="none",
        timeout=TIMEOUT,
        http_client=openai.DefaultAsyncHttpxClient(
            event_hooks={"request": [sending], "response": [answered]}
        ),
    ) as client:
        await asyncio.gather(*(_embed(client, call, began) for call in calls.values()))
    return list(calls.values())


async def _embed(client: "openai.AsyncOpenAI", call: Call, began: float) -> None:
    import openai

    try:
        answer = await client.embeddings.create(model="simulated", input=call.text)
    except openai.OpenAIError as error:
        call.error = type(error).__name__
    else:
        call.is_right = np.allclose(answer.data[0].embedding, answers([call.text])[0], atol=1e-6)
    call.ended = now() - began


def _text(request: "httpx2.Request") -> str:
    text: str = json.loads(request.content)["input"]
    return text


def _retry_after(response: "httpx2.Response") -> float:
    """Seconds; the finer of the two headers, as the client reads them."""
    if finer := response.headers.get("retry-after-ms"):
        return float(finer) / 1e3
    return float(response.headers.get("retry-after", 0))
