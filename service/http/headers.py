"""What request headers ask for (deadline, priority), and the Server-Timing of an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from batcher import Answer, BatchReport
from service.errors import Problem, quote

MAX_TIMEOUT_MS = 3_600_000
DEFAULT_PRIORITY = 3
# A dictionary (RFC 8941, section 3.2), less the lists that may be values: those are skipped over.
_KEY = rb"[a-z*][a-z0-9_.*-]*"
_BARE = (
    rb"(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|\?[01]|:[A-Za-z0-9+/=]*:"
    rb'|"(?:[ !#-\[\]-~]|\\["\\])*"'
    rb"|[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*)"
)
_MEMBER = rb"(%s)(?:=(%s|\([^()]*\)))?((?:; *%s(?:=%s)?)*)" % (_KEY, _BARE, _KEY, _BARE)
_NEXT = re.compile(rb"[ \t]*,[ \t]*")
_MEMBERS = re.compile(_MEMBER)
_URGENCIES = {b"%d" % urgency: urgency for urgency in range(8)}

Headers = Mapping[bytes, bytes]


def asked_for(headers: Headers, default_timeout: float) -> tuple[float, int]:
    """The timeout in seconds, and the priority. Raises Problem 400."""
    return timeout(headers, default_timeout), priority_of(headers)


def timeout(headers: Headers, default: float) -> float:
    """Seconds: the shortest that any header names, else the default. Raises Problem 400."""
    own = headers.get(b"x-request-timeout-ms")
    envoys = headers.get(b"x-envoy-expected-rq-timeout-ms")
    if own is None and envoys is None:
        return default
    named = (("X-Request-Timeout-Ms", own), ("X-Envoy-Expected-Rq-Timeout-Ms", envoys))
    return min(_milliseconds(name, value) for name, value in named if value is not None) / 1e3


def priority_of(headers: Headers) -> int:
    """0 (soonest) to 7. What is no urgency is ignored (RFC 9218, section 4)."""
    value = headers.get(b"priority")
    if value is None:
        return DEFAULT_PRIORITY
    urgency = _members(value.strip(b" ")).get(b"u")
    return _URGENCIES.get(urgency, DEFAULT_PRIORITY) if urgency else DEFAULT_PRIORITY


def _members(value: bytes) -> dict[bytes, bytes | None]:
    """Of a dictionary of structured fields; none of what is not wholly one. The last of a name
    counts."""
    members: dict[bytes, bytes | None] = {}
    position = 0
    while member := _MEMBERS.match(value, position):
        members[member[1]] = member[2]
        if member.end() == len(value):
            return members
        comma = _NEXT.match(value, member.end())
        if comma is None:
            break
        position = comma.end()
    return {}


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
                f'batch;desc="size={batch.size} tokens={batch.tokens} reason={batch.reason}'
                f" padding={batch.padding_ratio:.2f} oldest={batch.oldest_wait * 1e3:.1f}"
                f' predicted={batch.predicted * 1e3:.1f}"',
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
