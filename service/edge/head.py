"""What the head of a request may be. The parser refuses what is no HTTP; this, what it lets through
though two servers might read it in two ways, and what is too large."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote

import httptools

from service.errors import Header, Problem, quote

MAX_HEAD = 64 << 10  # bytes
MAX_HEADERS = 128
MAX_URL = 8 << 10  # bytes
_VERSIONS = frozenset({"1.1", "1.0"})

# Once each, and looked at. (The parser itself sees to Content-Length.)
SPECIAL = frozenset({b"host", b"transfer-encoding", b"expect", b"authorization"})
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=-]*(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")


def check(
    version: str, url: bytes, headers: Sequence[Header], special: Mapping[bytes, bytes]
) -> None:
    """`special` are those of the headers that are SPECIAL. Raises Problem."""
    if len(url) > MAX_URL:
        raise Problem(414, f"the URL is longer than {MAX_URL} bytes")
    if len(headers) > MAX_HEADERS:
        raise Problem(431, f"there are more than {MAX_HEADERS} headers")
    if version not in _VERSIONS:
        raise malformed(f"HTTP/{version} is not spoken here, HTTP/1.1 is")
    host = special.get(b"host")
    if host is None:
        if version == "1.1":
            raise malformed("the header host is missing")
    elif not _is_host(host):
        raise malformed(f"the host {quote(host.decode('latin-1'))}")
    coding = special.get(b"transfer-encoding")
    if coding is not None:
        _check_coding(version, coding)
    expected = special.get(b"expect", b"100-continue")
    if expected.lower() != b"100-continue":
        raise Problem(
            417,
            f"Expect {quote(expected.decode('latin-1'))}: only 100-continue can be met",
            param="Expect",
        )


# A service is asked for few different things: each is taken apart once.
@lru_cache(maxsize=256)
def target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, the same as it was sent, and query. Raises Problem, or the parser's own error."""
    if url[:1] == b"/" and b"#" not in url:  # the parser has looked at every character of it
        raw_path, _, query = url.partition(b"?")
    else:
        parsed = httptools.parse_url(url)
        if parsed.path is None:
            raise malformed("the URL has no path")
        raw_path, query = parsed.path, parsed.query or b""
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, query


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def duplicate(name: bytes) -> Problem:
    return malformed(f"the header {name.decode()} is there twice")


def malformed(why: str) -> Problem:
    return Problem(400, f"this is no valid HTTP: {why}", code="malformed_http")


def check_size(url: bytes, headers: Sequence[Header]) -> None:
    """O(headers): only for a head that may be too large. Raises Problem 431."""
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD:
        raise too_large()


def too_large() -> Problem:
    return Problem(431, f"the head of the request is larger than {MAX_HEAD} bytes")


def too_late(seconds: float) -> Problem:
    return Problem(408, f"the head of the request did not arrive within {seconds:g} s")


def _check_coding(version: str, value: bytes) -> None:
    if version == "1.0":
        raise malformed("transfer-encoding came with HTTP/1.1")
    if value.lower() != b"chunked":
        raise malformed(f"transfer-encoding {quote(value.decode('latin-1'))}: only chunked is read")
