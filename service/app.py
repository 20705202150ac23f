"""create_app: the protocols, one line each, and the one routing table made of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import huggingface, openai, openapi, operations, predict, tei
from service.api.routes import Route, WireProtocol
from service.errors import Envelope, ErrorFormat, Problem
from service.http.cors import with_cors
from service.http.exchange import EXCHANGE, Endpoint, ExchangeMiddleware
from service.http.proxies import WithoutPrefix
from service.settings import BadSetting, Settings
from service.state import AppState

_DESCRIBED: Sequence[WireProtocol] = (
    tei.PROTOCOL,
    huggingface.PROTOCOL,
    openai.PROTOCOL,
    predict.PROTOCOL,
    operations.PROTOCOL,
)
PROTOCOLS = (*_DESCRIBED, openapi.describing(_DESCRIBED))
ROUTES = [route for protocol in PROTOCOLS for route in protocol.routes]
_OWNERS = {route.path: protocol for protocol in PROTOCOLS for route in protocol.routes}


def create_app(state: AppState) -> ASGIApp:
    """The service as an ASGI application. Its lifespan starts nothing: `state` is all it needs."""
    state.tally.routes = tuple(dict.fromkeys(route.path for route in ROUTES))
    state.access_log.probes = frozenset(route.path for route in operations.PROTOCOL.routes)
    routed = Starlette(
        routes=[
            StarletteRoute(_starlette_path(route), _Reached(route, state), methods=[route.method])
            for route in ROUTES
        ],
        exception_handlers={HTTPException: _raise_problem, Exception: _raise_again},
    )
    routed.router.redirect_slashes = False  # a wrong path is a 404, not a second request
    # Around Starlette and not within it: its outer layers take 4 us, of 50 for a short request.
    app: ASGIApp = ExchangeMiddleware(
        routed,
        service=state,
        now=state.clock.now,
        counts=state.tally,
        access_log=state.access_log,
        keys=state.settings.api_keys,
        open_paths=frozenset(route.path for route in ROUTES if route.is_open),
        error_format_of=error_format_of,
        exact=_exact(state),
    )
    settings = state.settings
    if settings.root_path is not None:
        app = WithoutPrefix(app, settings.root_path)
    return with_cors(app, settings.allowed_origins)


def check_root_path(settings: Settings) -> None:
    """Raises BadSetting for a prefix that is the beginning of a route: with a proxy that strips it,
    and one that does not, the same path would be two routes."""
    prefix = settings.root_path
    taken = [each.path for each in ROUTES if f"{each.path}/".startswith(f"{prefix}/")]
    if taken and prefix is not None:
        raise BadSetting(
            f"BATCHER_ROOT_PATH={prefix!r}: the service has a route {taken[0]}, so a path could"
            " mean two routes; choose another prefix"
        )


class _Reached:
    """An endpoint as Starlette's router calls it."""

    def __init__(self, route: Route, state: AppState) -> None:
        self._endpoint = partial(route.endpoint, state)

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        await self._endpoint(scope[EXCHANGE])


def _exact(state: AppState) -> dict[tuple[str, str], Endpoint]:
    """The same table's routes without parameters, which the middleware looks up by itself. Through
    Starlette's layers and along its list a short request takes 1.45 times as long in here (237 and
    344 us on a busy machine, medians of 9 runs of 2,000)."""
    return {
        (method, route.path): partial(route.endpoint, state)
        for route in ROUTES
        if "{" not in route.path
        for method in (("GET", "HEAD") if route.method == "GET" else (route.method,))
    }


def _starlette_path(route: Route) -> str:
    return route.path.replace("}", ":path}")


async def _raise_problem(_request: object, error: Exception) -> None:
    """What Starlette's router says is written by ours, in the envelope of the path."""
    assert isinstance(error, HTTPException)
    detail = _MESSAGES.get(error.status_code, error.detail)
    raise Problem(error.status_code, detail, headers=error.headers)


async def _raise_again(_request: object, error: Exception) -> None:
    """Starlette would answer it in a form of its own."""
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame: no reference cycle


_MESSAGES = {404: "there is no such route (GET /openapi.json lists them)"}


def error_format_of(path: str) -> ErrorFormat:
    """Of any path: of the protocol that owns it, or its prefix."""
    return _protocol_of(path).errors


def envelope_of(path: str) -> Envelope:
    """How the protocol that owns a path writes its errors. Of any path."""
    return _protocol_of(path).errors.envelope


def _protocol_of(path: str) -> WireProtocol:
    if owner := _OWNERS.get(path):
        return owner
    fitting = [each for each in PROTOCOLS if path.startswith(each.prefix or path + "/")]
    return max(fitting, key=lambda each: len(each.prefix or ""), default=PROTOCOLS[0])
