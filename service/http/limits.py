"""What a caller may send before anyone looks inside: key, media type, size."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from starlette.types import Message, Receive

from service.errors import Problem, quote
from service.http.exchange import Disconnected

_NOT_JSON = (b"multipart/", b"image/", b"audio/", b"video/")

Headers = Mapping[bytes, bytes]


def check_key(headers: Headers, keys: Sequence[bytes]) -> str:
    """Which key it is, as a name that does not give it away. Raises Problem 401.

    Takes the same time for every wrong key, and for every right one.
    """
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    given = given.strip()
    matches = [hmac.compare_digest(given, key) for key in keys]  # all of them, always
    if scheme.lower() != b"bearer" or not any(matches):
        raise Problem(
            401,
            "this service wants its key: send the header 'Authorization: Bearer <key>'",
            param="Authorization",
            headers={"www-authenticate": "Bearer"},
        )
    return f"key {matches.index(True)}"


def check_media(headers: Headers) -> None:
    """Raises Problem 415 for what is clearly no JSON; `curl -d` and no type at all are fine."""
    media = headers.get(b"content-type")
    if media is not None and media.lower().startswith(_NOT_JSON):
        raise Problem(
            415,
            f"Content-Type {quote(media.decode('latin-1'))}: this route takes application/json",
            param="Content-Type",
        )
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() not in (b"identity", b""):
        raise Problem(
            415,
            f"Content-Encoding {quote(encoding.decode('latin-1'))}: send the body uncompressed",
            param="Content-Encoding",
        )


def check_size(declared: bytes | None, limit: int) -> None:
    """Raises Problem 413 before a byte of the body is read."""
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise too_large(limit)


async def read_on(message: Message, receive: Receive, limit: int) -> bytes:
    """The body of which `message` is the first piece. Raises Problem 413, Disconnected."""
    received = bytearray()
    while message["type"] == "http.request":
        received += message.get("body", b"")
        if len(received) > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return bytes(received)
        message = await receive()
    raise Disconnected


def too_large(limit: int) -> Problem:
    # The connection stays open: uvicorn drops the rest of the body as it comes, and the client,
    # who is still sending, gets to read this. Closed under it, he would see a reset instead.
    return Problem(413, f"the body is larger than {limit} bytes")
