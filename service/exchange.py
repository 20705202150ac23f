"""One HTTP request and its answer, as endpoints and the middleware share it."""

from __future__ import annotations

import re

from starlette.types import Message, Scope, Send

from service.errors import Header

_OWN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_JSON = (b"content-type", b"application/json")


class Exchange:
    """What endpoints know of the request they answer, and how they answer it."""

    __slots__ = ("_close", "_send", "headers", "request_id", "started", "status")

    def __init__(self, scope: Scope, send: Send, started: float, fresh_id: bytes, close: bool):
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        own_id = self.headers.get(b"x-request-id")
        self.request_id = own_id if own_id and _OWN_ID.fullmatch(own_id) else fresh_id
        self.started = started  # on the engine's clock
        self.status = 0  # 0: no answer has begun
        self._send = send
        self._close = close

    async def send(self, message: Message) -> None:
        """For responses made by Starlette."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._own_headers()]
        await self._send(message)

    async def answer(self, body: bytes, headers: list[Header], status: int = 200) -> None:
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    _JSON,
                    (b"content-length", b"%d" % len(body)),
                    *self._own_headers(),
                    *headers,
                ],
            }
        )
        await self._send({"type": "http.response.body", "body": body})

    def _own_headers(self) -> list[Header]:
        if self._close:
            return [(b"x-request-id", self.request_id), (b"connection", b"close")]
        return [(b"x-request-id", self.request_id)]
