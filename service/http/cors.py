"""Cross-origin calls from browsers. Around everything else: a page must be able to read a 401."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.errors import Header

# Of the answers' headers, those that a page may read beside the few that browsers always show.
_EXPOSED = (
    "X-Request-Id",
    "Retry-After",
    "Retry-After-Ms",
    "X-Should-Retry",
    "Server-Timing",
    "X-Compute-Type",
    "X-Compute-Time",
    "X-Compute-Characters",
    "X-Compute-Tokens",
    "X-Total-Time",
    "X-Tokenization-Time",
    "X-Queue-Time",
    "X-Inference-Time",
    "Inference-Header-Content-Length",  # where a tensor's binary data begins
)


def headers_of_refusal(origins: Sequence[str], asked: Iterable[Header]) -> list[Header]:
    """For what the edge answers itself: a page must be able to read why. `asked`: the headers of
    the request, as far as they have been read."""
    if not origins:
        return []
    origin = next((value for name, value in asked if name == b"origin"), b"")
    allowed = origins[0].encode()  # right for every reader, if it is the only one
    if len(origins) > 1:
        if origin.decode("latin-1") not in origins:
            return []
        allowed = origin
    exposed = ", ".join(_EXPOSED).encode()
    return [
        (b"access-control-allow-origin", allowed),
        (b"access-control-expose-headers", exposed),
        (b"vary", b"Origin"),
    ]


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Never with credentials: a browser sends no cookie, and a key only if the page has it. Without
    origins the application itself."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("*",),
        allow_headers=("*",),  # clients send headers of their own: x-stainless-lang, …
        expose_headers=_EXPOSED,
    )
