"""create_app: the protocols, one line each, and the one routing table made of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import (
    azure,
    cohere,
    huggingface,
    infinity,
    oip,
    ollama,
    openai,
    openapi,
    operations,
    predict,
    rerank,
    tei,
    vllm,
)
from service.api.routes import Route, WireProtocol
from service.api.unrouted import explain, nearest
from service.errors import Envelope, ErrorFormat, Problem
from service.http.auth import Headers
from service.http.cors import with_cors
from service.http.exchange import EXCHANGE, Endpoint, Exchange, ExchangeMiddleware
from service.http.proxies import ForwardedClient, TrustedProxies, WithoutPrefix
from service.http.templates import Templates
from service.settings import BadSetting, Settings
from service.state import AppState

_DESCRIBED: Sequence[WireProtocol] = (
    tei.PROTOCOL,
    huggingface.PROTOCOL,
    openai.PROTOCOL,
    azure.PROTOCOL,
    ollama.PROTOCOL,
    cohere.PROTOCOL,
    vllm.PROTOCOL,
    rerank.PROTOCOL,
    predict.PROTOCOL,
    infinity.PROTOCOL,
    infinity.AT_ROOT,
    oip.PROTOCOL,
    operations.PROTOCOL,
)
PROTOCOLS = (*_DESCRIBED, openapi.describing(_DESCRIBED))
ROUTES = [route for protocol in PROTOCOLS for route in protocol.routes]
_OPENAI_CLIENT = b"x-stainless-lang"  # a header of OpenAI's own clients
_OWNERS = {route.path: protocol for protocol in PROTOCOLS for route in protocol.routes}


def create_app(state: AppState) -> ASGIApp:
    """The service as an ASGI application. Its lifespan starts nothing: `state` is all it needs."""
    state.tally.routes = tuple(dict.fromkeys(route.path for route in ROUTES))
    probes = frozenset(route.path for route in operations.PROTOCOL.routes)
    state.access_log.probes = probes | oip.PROBES
    routed = Starlette(
        routes=[
            StarletteRoute(_starlette_path(route), _Reached(route, state), methods=[route.method])
            for route in ROUTES
        ],
        exception_handlers={HTTPException: _answer_unrouted, Exception: _raise_again},
    )
    routed.router.redirect_slashes = False  # a wrong path is a 404, not a second request
    # Around Starlette and not within it: its outer layers take 4 us, of 50 for a short request.
    app: ASGIApp = ExchangeMiddleware(
        _Parameterised(state, routed),
        service=state,
        now=state.clock.now,
        counts=state.tally,
        access_log=state.access_log,
        keys=state.settings.api_keys,
        open_routes=frozenset(
            (method, route.path) for route in ROUTES if route.is_open for method in _methods(route)
        ),
        error_format_of=error_format_of,
        exact=_exact(state),
    )
    settings = state.settings
    if settings.root_path is not None:
        app = WithoutPrefix(app, settings.root_path)
    if settings.trusted_proxies is not None:
        proxies = TrustedProxies(settings.proxy_networks, unix=settings.trusts_unix_socket)
        app = ForwardedClient(app, proxies)
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


class _Parameterised:
    """The routes with parameters; all that is none goes to Starlette, which would take 50 us longer
    for each request to these, of 90 (loops of 300 in one process)."""

    def __init__(self, state: AppState, others: ASGIApp) -> None:
        self._others = others
        endpoints: dict[str, dict[str, Endpoint]] = {}
        for route in ROUTES:
            endpoint = partial(route.endpoint, state)
            endpoints.setdefault(route.path, {}).update(dict.fromkeys(_methods(route), endpoint))
        self._endpoints = Templates(endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._endpoints.find(scope["path"]) if scope["type"] == "http" else None
        endpoint = None if found is None else found.get(scope["method"])
        if endpoint is None:
            await self._others(scope, receive, send)
        else:
            await endpoint(scope[EXCHANGE])


def _exact(state: AppState) -> dict[tuple[str, str], Endpoint]:
    """The same table's routes without parameters, which the middleware looks up by itself. Through
    Starlette's layers and along its list a short request takes 1.45 times as long in here (237 and
    344 us on a busy machine, medians of 9 runs of 2,000)."""
    return {
        (method, route.path): partial(route.endpoint, state)
        for route in ROUTES
        if "{" not in route.path
        for method in _methods(route)
    }


def _methods(route: Route) -> Sequence[str]:
    return ("GET", "HEAD") if route.method == "GET" else (route.method,)


def _starlette_path(route: Route) -> str:
    return route.path.replace("}", ":path}")


async def _answer_unrouted(request: Request, error: Exception) -> Response:
    """What Starlette's router says, in our words and the envelope of the path."""
    assert isinstance(error, HTTPException)
    scope = request.scope
    if error.status_code != 405:
        path: str = scope["path"]
        raise Problem(404, explain(path, _nearest(path)))
    matching = [each for each in scope["app"].routes if each.matches(scope)[0] != Match.NONE]
    # A path may match a shorter one, too, whose parameter takes its slashes.
    longest = max(matching, key=lambda each: len(each.path)).path
    paths = [each for each in matching if each.path == longest]
    methods = ", ".join(sorted({"OPTIONS"}.union(*(each.methods for each in paths))))
    if scope["method"] != "OPTIONS":
        raise Problem(405, f"this route takes {methods}", headers={"allow": methods})
    exchange: Exchange = scope[EXCHANGE]
    exchange.status = 204
    headers = {"allow": methods, "x-request-id": exchange.request_id.decode()}
    return Response(status_code=204, headers=headers)


async def _raise_again(_request: object, error: Exception) -> None:
    """Starlette would answer it in a form of its own."""
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame: no reference cycle


def error_format_of(path: str, headers: Headers | None = None) -> ErrorFormat:
    """Of any path: of the protocol that owns it, or its prefix, or the route that was probably
    meant; or of OpenAI's where its client asks."""
    return _protocol_of(path, headers or {}).errors


def envelope_of(path: str) -> Envelope:
    """How the protocol that owns a path writes its errors. Of any path."""
    return error_format_of(path).envelope


def _protocol_of(path: str, headers: Headers) -> WireProtocol:
    if owner := _OWNERS.get(path):
        return owner
    by_prefix = [each for each in PROTOCOLS if path.startswith(each.prefix or path + "/")]
    owner = max(by_prefix, key=lambda each: len(each.prefix or ""), default=PROTOCOLS[0])
    if owner.prefix in (None, "/"):  # that of all other paths
        if _OPENAI_CLIENT in headers:
            return openai.PROTOCOL
        if near := _nearest(path):
            return _OWNERS[near[0].path]
    return owner


@lru_cache(maxsize=256)
def _nearest(path: str) -> Sequence[Route]:
    return nearest(path, ROUTES)
