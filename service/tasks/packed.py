"""A Request and a Response of a model of the user's own as the plain data that the engine carries.

Both are tuples with bytes in them, which no JSON value is.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from batcher import File, Request, Response

_REQUEST, _RESPONSE = b"request", b"response"
Packed = tuple[Any, ...]


def pack_request(request: Request) -> Packed:
    files = {
        name: (each.body, each.content_type, each.name) for name, each in request.files.items()
    }
    return (_REQUEST, request.body, request.content_type, dict(request.fields), files)


def unpack_request(value: Any) -> Any:
    """The Request, or the value itself if it is none."""
    if not _is(value, _REQUEST):
        return value
    _, body, content_type, fields, files = value
    return Request(body, content_type, fields, {name: File(*each) for name, each in files.items()})


def pack_response(response: Response) -> Packed:
    return (_RESPONSE, response.body, response.content_type)


def unpack_response(value: Any) -> Any:
    """The Response, also of bytes alone; or the value itself if it is neither."""
    if type(value) is bytes:
        return Response(value)
    return Response(*value[1:]) if _is(value, _RESPONSE) else value


def _is(value: Any, mark: bytes) -> TypeGuard[Packed]:
    return type(value) is tuple and bool(value) and value[0] == mark and type(value[0]) is bytes
