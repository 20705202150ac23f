"""What the body of a request must be: JSON, an object, with the fields that a route takes. And how
many bytes of large bodies, received and sent, a process holds."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.types import Message, Receive, Send

from batcher import Overloaded
from batcher.scheduling.admission import SHARE
from service.errors import InputError, Problem, quote
from service.http.supervision import Disconnected

LARGE = 64 << 10  # bytes; parsing that many takes about 1 ms: more is done off the event loop
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_WINDOW = 256 << 10  # bytes that are searched at once: meanwhile the event loop stands still
# Of valid JSON: a text, a whole number in the group, or another number.
_TEXT_OR_NUMBER = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*"|(-?[0-9]+)(?![0-9.eE])|-?[0-9]+[0-9.eE+-]+', re.DOTALL
)
_MAX_DIGITS = 20  # of 64 bits, or one fewer and a sign
_PIECE = 256 << 10  # bytes of an answer that are handed to the connection at once
LARGEST_BODIES = 16  # of the largest size, that a process may hold at once
LEAST_HELD = (
    512 << 20
)  # bytes that it may hold, also where bodies must be small: answers need not be
# That a value takes once it is parsed; a list or an object counts as two. "[]," has three bytes:
# 32 MiB of it would become 700.
VALUE_BYTES = 32
_BYTES_FOR_A_VALUE = 8  # of the largest body: so many times fewer values may be in one
_ALWAYS_ALLOWED = 1 << 20  # values
_MARK = b"\xef\xbb\xbf"  # a byte-order mark, which some clients put before UTF-8
_NOT_JSON = (b"multipart/", b"image/", b"audio/", b"video/")

Fields = TypeVar("Fields", bound=BaseModel)
Headers = Mapping[bytes, bytes]
Result = TypeVar("Result")
Parser = Callable[[bytes], dict[str, Any]]


class Offload(Protocol):
    """Threads for work that would stop the event loop."""

    async def run(
        self,
        deadline: float,
        function: Callable[..., Result],
        *arguments: Any,
        caller: str | None = None,
    ) -> Result:
        """What the function returns or raises. Raises Overloaded, DeadlineExceeded."""


class Held(Protocol):
    """A request, as to the memory that its body takes."""

    limit: int  # bytes of its body

    def hold(self, size: int) -> None:
        """Until it is answered. Raises Overloaded."""

    async def offload(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """As Offload.run, until its deadline."""


def fields(model: type[Fields], body: dict[str, Any], *, refuse_unknown: bool) -> Fields:
    """Unknown fields are ignored where the model says so, and they are not to be refused.
    Raises InputError, naming the field and the rule: a protocol has a status for it."""
    is_strict = refuse_unknown or model.model_config.get("extra") == "forbid"
    # Pydantic would write an error for each of 100,000.
    if is_strict and len(body) > len(model.model_fields):
        unknown = next(name for name in body if name not in model.model_fields)
        raise _malformed(unknown[:80], "there is no such field")
    try:
        return model.model_validate(body, extra="forbid" if is_strict else None)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _malformed(".".join(map(str, first["loc"]))[:80], _rule(first)) from None


def parse(data: bytes) -> dict[str, Any]:
    """Raises Problem 400."""
    try:
        body = orjson.loads(data.removeprefix(_MARK))
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if type(body) is not dict:
        raise Problem(400, "the body must be a JSON object", code="invalid_json")
    return body


def parse_exactly(data: bytes) -> dict[str, Any]:
    """As parse(), for values that a user's code gets: also raises Problem 422 for a whole number
    beyond 64 bits, which the parser makes a float of that is only near it."""
    body = parse(data)
    starts = range(0, len(data), _WINDOW)
    if any(_LONG_NUMBER.search(data, at, at + _WINDOW + 18) for at in starts):  # in a text, perhaps
        for found in _TEXT_OR_NUMBER.finditer(data):
            _check_64_bits(found[1])
    return body


def _check_64_bits(whole: bytes | None) -> None:
    if whole is None:
        return
    if len(whole) > _MAX_DIGITS or not -(2**63) <= int(whole) < 2**64:
        number = quote(whole.decode(), 40)
        raise Problem(422, f"{number}: a whole number beyond 64 bits; send it as a text or a float")


def count_values(data: bytes, limit: int) -> int:
    """About how many JSON values a body has that may have `limit` bytes, lists and objects counted
    twice. The parser, which no other thread can interrupt, takes time and memory for each of them.
    Raises Problem 413."""
    most = max(_ALWAYS_ALLOWED, limit // _BYTES_FOR_A_VALUE)
    count = _count_breaks(data)
    if count > most:  # in texts, perhaps
        count = _count_outside_texts(data)
    if count > most:
        raise Problem(
            413,
            f"the body has more than {most} JSON values (a list or object counts as two), an eighth"
            " of the bytes that it may have (BATCHER_MAX_BODY_BYTES)",
        )
    return count


def _count_breaks(data: bytes) -> int:
    """What values begin behind."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _count_outside_texts(data: bytes) -> int:
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # a quote now begins a text or ends it
    count, in_text = 0, False
    for start in range(0, len(plain), _WINDOW):
        parts = plain[start : start + _WINDOW].split(b'"')
        count += _count_breaks(b"".join(parts[in_text::2]))
        in_text ^= len(parts) % 2 == 0
    return count


async def weigh(request: Held, data: bytes) -> None:
    """Before a large body is parsed. Raises Problem 413 for too many values, and Overloaded where
    there is no room for what they will take."""
    request.hold(VALUE_BYTES * await request.offload(count_values, data, request.limit))


def is_object(data: bytes) -> bool:
    """It begins as one in JSON does."""
    return data.removeprefix(_MARK).lstrip()[:1] == b"{"


class LargeBodies:
    """The bytes that the large bodies of a process take, each until it is answered, and large
    answers until they are read. Without this bound, many connections could bring as many of the
    largest, or leave them unread."""

    def __init__(self, limit: int) -> None:
        # Nothing else runs while the parser does: one at a time, so that the event loop has its
        # turn between two of them.
        self.parsing = asyncio.Lock()
        self._limit = limit
        self._held: Counter[str | None] = Counter()  # by caller

    def take(self, size: int, caller: str | None) -> None:
        """Raises Overloaded, and takes nothing. Whatever is alone has room."""
        free = self._limit - self._held.total()
        held = 0 if caller is None else self._held.get(caller, 0)
        # The same rule as for the queue: see batcher/scheduling/admission.py.
        if self._held and (size > free or (held and held + size > SHARE * free)):
            raise Overloaded("too many large bodies are being received or sent", retry_after=1.0)
        self._held[caller] += size

    def give_back(self, size: int, caller: str | None) -> None:
        self._held[caller] -= size
        if not self._held[caller]:
            del self._held[caller]


async def read_on(
    message: Message, receive: Receive, limit: int, hold: Callable[[int], None]
) -> bytes:
    """The body of which `message` is the first piece. `hold` is told of bytes beyond LARGE, before
    they are kept. Raises Problem 413, Disconnected, and what `hold` raises."""
    received = bytearray()
    held = LARGE
    while message["type"] == "http.request":
        received += message.get("body", b"")
        if len(received) > limit:
            raise too_large(limit)
        if len(received) > held:
            hold(len(received) - held)
            held = len(received)
        if not message.get("more_body"):
            return bytes(received)
        message = await receive()
    raise Disconnected(message.get("refusal"))


async def send_large(body: bytes, send: Send) -> None:
    """In pieces, each once the client has read the one before it."""
    for start in range(0, len(body), _PIECE):
        piece, more_body = body[start : start + _PIECE], start + _PIECE < len(body)
        await send({"type": "http.response.body", "body": piece, "more_body": more_body})


def check_media(headers: Headers) -> None:
    """Raises Problem 415 for what is clearly no JSON; `curl -d` and no type at all are fine."""
    media = headers.get(b"content-type")
    if media is not None and media.lower().startswith(_NOT_JSON):
        raise Problem(
            415,
            f"Content-Type {quote(media.decode('latin-1'))}: this route takes application/json",
            param="Content-Type",
        )


def too_large(limit: int) -> Problem:
    # The connection stays open: the edge drops the rest of the body as it comes, and the client,
    # which is still sending, gets to read this. Closed early, the connection would be reset.
    return Problem(413, f"the body is larger than {limit} bytes")


def _malformed(field: str, rule: str) -> InputError:
    return InputError(rule, field=field, kind="invalid_request")


def _rule(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "missing":
        return "this field is required"
    if error["type"] in ("model_type", "dict_type"):
        return "must be an object"
    return str(error["msg"])
