"""multipart/form-data (RFC 7578): the parts of a body that is in memory. Strict; O(body)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message

from service.errors import Problem, quote

_MOST_PARTS = 1000
_MOST_HEAD = 8 << 10  # bytes of the headers of one part
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)")
_PARAMETER = re.compile(r';\s*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}  # as browsers write them in a name
_ENCODINGS = ("binary", "8bit", "7bit")


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    body: bytes
    content_type: str | None
    file_name: str | None

    @property
    def is_file(self) -> bool:
        return self.file_name is not None or self.content_type is not None


def parts_of(data: bytes, content_type: str) -> list[Part]:
    """In their order. Raises Problem 400, 413."""
    delimiter = b"\r\n--" + _boundary_of(content_type)
    data = b"\r\n" + data
    if data.count(delimiter) > _MOST_PARTS + 1:
        raise Problem(413, f"the form has more than {_MOST_PARTS} parts")
    _preamble, *pieces = data.split(delimiter)
    parts: list[Part] = []
    for piece in pieces:
        if piece.startswith(b"--"):
            return parts
        padding, newline, content = piece.partition(b"\r\n")
        if not newline or padding.strip(b" \t"):
            raise _bad(f"part {len(parts) + 1} does not begin on a line of its own")
        parts.append(_part(content, len(parts) + 1))
    raise _bad("its last boundary is missing, or it has another than Content-Type says")


def _boundary_of(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if boundary is None or not _BOUNDARY.fullmatch(boundary):
        raise Problem(
            400,
            f"Content-Type {quote(content_type)}: there is no boundary as RFC 2046 has it",
            param="Content-Type",
        )
    return boundary.encode()


def _part(content: bytes, place: int) -> Part:
    headers: dict[str, str] = {}
    # A part without headers begins with the empty line.
    head, end, body = (b"\r\n" + content).partition(b"\r\n\r\n")
    if not end or len(head) > _MOST_HEAD:
        raise _bad(f"the headers of part {place} do not end within {_MOST_HEAD} bytes")
    for line in head.split(b"\r\n")[1:]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise _bad(f"part {place} has a line that is no header: {quote(line, 40)}")
        headers[found[1].decode().lower()] = found[2].decode("utf-8", "replace")
    disposition = headers.get("content-disposition", "")
    if not disposition.lower().startswith("form-data"):
        raise _bad(f"part {place} has no Content-Disposition of form-data")
    values = {found[1].lower(): _unescaped(found[2]) for found in _PARAMETER.finditer(disposition)}
    if "name" not in values:
        raise _bad(f"part {place} has no name")
    encoding = headers.get("content-transfer-encoding", "binary").strip().lower()
    if encoding not in _ENCODINGS:
        raise _bad(f"part {place} is encoded as {quote(encoding, 40)}, which forms are not")
    return Part(values["name"], body, headers.get("content-type"), values.get("filename"))


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return re.sub(r"\\(.)", r"\1", text)


def _bad(why: str) -> Problem:
    return Problem(400, f"the body is no multipart/form-data: {why}", code="invalid_form")
