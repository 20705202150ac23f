"""What a proxy in front changes of a request: undone here, before anything else looks at it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class WithoutPrefix:
    """Serves a request with the path prefix as one without it: some proxies strip it, some do
    not."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")  # there is none in the lifespan's
        rest = path.removeprefix(self._prefix)
        if rest != path and rest[:1] in ("", "/"):
            scope["path"] = rest or "/"
        await self._app(scope, receive, send)
