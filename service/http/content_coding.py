"""Bodies that a client has compressed: gzip and deflate (RFC 9110, section 8.4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from service.errors import Problem, quote

# What zlib calls the format; either header, where it is told by the first bytes.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15  # without the header that the specification asks for: some clients forget it
_STEP = 1 << 20  # bytes that are decoded at once
_SLICE = 64 << 10  # bytes that are given to zlib at once: it copies what it does not take
_MAX_STREAMS = 4096  # in one body of gzip, one after the other
_HINT = "send it uncompressed, or in gzip or deflate"


def coding_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Raises Problem 415 for one that is not read here, or several."""
    given = headers.get(b"content-encoding", b"").decode("latin-1")
    codings = [each.strip().lower() for each in given.split(",")]
    named = [each for each in codings if each not in ("", "identity")]
    if not named:
        return None
    if len(named) == 1 and named[0] in _WINDOWS:
        return named[0]
    why = "a body may be compressed once" if len(named) > 1 else "not supported"
    raise Problem(415, f"Content-Encoding {quote(given)}: {why}; {_HINT}", param="Content-Encoding")


def decode(data: bytes, coding: str, limit: int) -> bytes:
    """In steps, so that a small body that becomes a huge one is known as such before it is there.
    O(data and what it becomes). Raises Problem 400 for what is not of that coding, 413 for more
    than `limit` bytes."""
    window = _WINDOWS[coding]
    if coding == "deflate" and not _has_zlib_header(data):
        window = _RAW_DEFLATE
    decoded, whole, taken = bytearray(), memoryview(data), 0
    for _ in range(_MAX_STREAMS):
        stream = zlib.decompressobj(window)
        try:
            while not stream.eof:
                part = whole[taken : taken + _SLICE]
                piece = stream.decompress(part, _STEP)
                decoded += piece
                taken += len(part) - len(stream.unconsumed_tail) - len(stream.unused_data)
                if len(decoded) > limit:
                    raise Problem(413, f"the body is larger than {limit} bytes when decoded")
                if not piece and taken == len(data) and not stream.eof:
                    raise _lying(coding, "it ends too soon")
        except zlib.error as error:
            raise _lying(coding, str(error)) from None
        if taken == len(data):
            return bytes(decoded)
        if window != _WINDOWS["gzip"]:
            raise _lying(coding, "more follows its end")
    raise Problem(413, f"the body has more than {_MAX_STREAMS} gzip streams, one after the other")


def _has_zlib_header(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _lying(coding: str, why: str) -> Problem:
    return Problem(
        400,
        f"the body is not what Content-Encoding says, {coding}: {why}",
        param="Content-Encoding",
    )
