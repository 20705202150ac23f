"""What a body that is not JSON brings to a model of the user's own: one input."""

from __future__ import annotations

from collections.abc import Mapping

from batcher import File, Request
from service.errors import Problem, quote
from service.http.multipart import parts_of

# No type at all is what some clients send, the last what curl -d does unless it is told otherwise.
_JSON = ("", "application/json", "text/plain", "application/x-www-form-urlencoded")
FORM = "multipart/form-data"


def content_type_of(headers: Mapping[bytes, bytes]) -> str:
    return headers.get(b"content-type", b"").decode("latin-1")


def media_of(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    media = media_of(content_type)
    return media in _JSON or media.endswith("+json")


def request_from(data: bytes, content_type: str) -> Request:
    """Raises Problem 400, 413, 415."""
    media = media_of(content_type)
    if media != FORM:
        if media.startswith("multipart/"):
            raise Problem(
                415, f"Content-Type {quote(content_type)}: of forms this route takes {FORM}"
            )
        if not data:
            raise Problem(400, "the body is empty")
        return Request(data, content_type)
    fields: dict[str, str] = {}
    files: dict[str, File] = {}
    for part in parts_of(data, content_type):
        if part.name in fields or part.name in files:
            raise Problem(400, f"{quote(part.name)}: the form has this field twice")
        if part.is_file:
            kind = part.content_type or "application/octet-stream"
            files[part.name] = File(part.body, kind, part.file_name or "")
        else:
            fields[part.name] = _text(part.body, part.name)
    return Request(b"", content_type, fields, files)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem(400, f"{quote(name)}: the field is not UTF-8") from None
