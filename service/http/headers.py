"""What request headers ask for: a deadline, a priority."""

from __future__ import annotations

import re
from collections.abc import Mapping

from service.errors import Problem, quote

MAX_TIMEOUT_MS = 3_600_000
TIMEOUT = b"x-request-timeout-ms"
MESH_TIMEOUT = b"x-envoy-expected-rq-timeout-ms"
_MOST_DIGITS = 18
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


def timeout(headers: Headers, default: float) -> float:
    """Seconds: the caller's; else the shorter of the default and the mesh's, whose proxy stamps its
    own on every request whatever the caller wants, and which is therefore never an error. Raises
    Problem 400."""
    given = headers.get(TIMEOUT)
    if given is not None:
        return _milliseconds("X-Request-Timeout-Ms", given) / 1e3
    mesh = headers.get(MESH_TIMEOUT, b"")
    is_number = mesh.isdigit() and len(mesh) <= _MOST_DIGITS
    return min(int(mesh) / 1e3 if is_number else 0.0, default) or default


def priority_of(headers: Headers) -> int:
    """0 (soonest) to 7; one is there. What is no urgency is ignored (RFC 9218, section 4)."""
    urgency = _members(headers[b"priority"].strip(b" ")).get(b"u")
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
