"""The wire between a front and the engine, as bytes. No socket, no loop, no clock, and no pickle.

Each function here writes one frame; `reader` reads them. The first one each way is a hello, which
names the version. Made for many small calls: what a batch has in common is written once.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from batcher.errors import BatcherError, Refused, RunnerFailed
from batcher.remote import layout, values
from batcher.remote.messages import FrameError, Json, Submit
from batcher.request import Answer, BatchReport


def hello() -> bytes:
    return _frame(layout.HELLO, [layout.HELLO_BODY.pack(layout.MARK, layout.VERSION)])


def submit(message: Submit) -> bytes:
    """Raises FrameError for a payload that cannot travel."""
    call, deadline, priority, caller, costs, payloads = message
    count = len(payloads)
    name = b"" if caller is None else caller.encode("utf-8", "surrogatepass")
    if len(name) >= layout.NOBODY:
        raise FrameError(f"a caller's name of {len(name)} bytes")
    length = layout.NOBODY if caller is None else len(name)
    try:
        head = layout.SUBMIT_BODY.pack(call, deadline, priority, length, count)
        parts = [head, name, struct.pack(f"<{count}I", *costs)]
    except struct.error as error:
        raise FrameError(f"a call that cannot be written down: {error}") from None
    for payload in payloads:
        values.write(payload, parts)
    return _frame(layout.SUBMIT, parts)


def withdraw(call: int, is_late: bool) -> bytes:
    return _frame(layout.WITHDRAW, [layout.WITHDRAW_BODY.pack(call, is_late)])


def settled(entries: Sequence[tuple[int, int, Answer]]) -> bytes:
    """Of one batch: all have the same report. Raises FrameError for a value that cannot travel."""
    count = len(entries)
    parts = [
        _written(entries[0][2].batch),
        layout.COUNT.pack(count),
        struct.pack(f"<{count}Q", *[call for call, _, _ in entries]),
        struct.pack(f"<{count}I", *[place for _, place, _ in entries]),
        struct.pack(f"<{count}d", *[answer.queue_wait for _, _, answer in entries]),
    ]
    values.write_all([answer.value for _, _, answer in entries], parts)
    return _frame(layout.SETTLED, parts)


def failed(call: int, error: BatcherError) -> bytes:
    codes = (code for code, known in enumerate(layout.ERRORS) if isinstance(error, known))
    code = next(codes, layout.ERRORS.index(RunnerFailed))  # one of the model's own
    retry_after = error.retry_after if isinstance(error, Refused) else 0.0
    text = str(error).encode("utf-8", "surrogatepass")
    return _frame(layout.FAILED, [layout.FAILED_BODY.pack(call, code, retry_after), text])


def ask(number: int, subject: str) -> bytes:
    return _frame(layout.ASK, [layout.NUMBER.pack(number), subject.encode()])


def told(number: int, value: Json) -> bytes:
    """What is no JSON in it is told as text."""
    return _frame(
        layout.TOLD, [layout.NUMBER.pack(number), json.dumps(value, default=str).encode()]
    )


def _frame(kind: int, parts: Sequence[Any]) -> bytes:
    body = b"".join(parts)
    if len(body) > layout.MAX_BODY:
        raise FrameError(f"{len(body)} bytes do not fit in a frame, which holds {layout.MAX_BODY}")
    return layout.HEAD.pack(len(body), kind) + body


def _written(report: BatchReport) -> bytes:
    reason = report.reason.encode()
    numbers = layout.REPORT.pack(
        report.replica,
        report.size,
        report.requests,
        report.tokens,
        report.useful_tokens,
        report.closed,
        report.oldest_wait,
        report.predicted,
        report.inference,
        len(reason),
    )
    return b"".join((numbers, reason))
