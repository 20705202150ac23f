"""What request headers ask for (deadline, priority), and the Server-Timing of an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from batcher import Answer, BatchReport
from service.errors import Problem, quote

MAX_TIMEOUT_MS = 3_600_000
DEFAULT_PRIORITY = 3
_URGENCY = re.compile(rb"(?:^|[,\s])u=([^,;\s]*)")  # RFC 9218, section 4.1

Headers = Mapping[bytes, bytes]


def timeout(headers: Headers, default: float) -> float:
    """Seconds: the shortest that any header names, else the default. Raises Problem 400."""
    own = headers.get(b"x-request-timeout-ms")
    envoys = headers.get(b"x-envoy-expected-rq-timeout-ms")
    if own is None and envoys is None:
        return default
    named = (("X-Request-Timeout-Ms", own), ("X-Envoy-Expected-Rq-Timeout-Ms", envoys))
    return min(_milliseconds(name, value) for name, value in named if value is not None) / 1e3


def priority(headers: Headers) -> int:
    """0 (soonest) to 7. Raises Problem 400."""
    value = headers.get(b"priority")
    if value is None:
        return DEFAULT_PRIORITY
    urgency = _URGENCY.search(value)
    if urgency is None:
        return DEFAULT_PRIORITY
    if urgency[1] not in (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"):
        raise Problem(
            400,
            f"Priority: u must be from 0 to 7, not {quote(urgency[1].decode('latin-1'))}",
            param="Priority",
        )
    return int(urgency[1])


class ServerTiming:
    """https://www.w3.org/TR/server-timing/, in milliseconds: of the input that waited longest.

    What a batch has to say is written once and not again for each of its requests.
    """

    def __init__(self) -> None:
        self._batch: BatchReport | None = None
        self._of_batch = ("", "")

    def header(self, answers: Sequence[Answer], tokenizing: float, total: float) -> bytes:
        answer = answers[0] if len(answers) == 1 else max(answers, key=_queue_wait)
        batch = answer.batch
        if batch is not self._batch:
            self._batch = batch
            self._of_batch = (
                f"inference;dur={batch.inference * 1e3:.3f}",
                f'batch;desc="size={batch.size} tokens={batch.tokens} reason={batch.reason}"',
            )
        inference, description = self._of_batch
        return (
            f"tokenize;dur={tokenizing * 1e3:.3f}, queue;dur={answer.queue_wait * 1e3:.3f},"
            f" {inference}, total;dur={total * 1e3:.3f}, {description}"
        ).encode("ascii")


def _queue_wait(answer: Answer) -> float:
    return answer.queue_wait


def _milliseconds(name: str, value: bytes) -> int:
    text = value.decode("latin-1")
    if not (text.isascii() and text.isdigit() and len(text) <= 7):
        text = "0"
    if not 1 <= (number := int(text)) <= MAX_TIMEOUT_MS:
        raise Problem(
            400,
            f"{name}: must be a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS},"
            f" not {quote(value.decode('latin-1'))}",
            param=name,
        )
    return number
