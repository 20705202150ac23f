"""create_app: the protocols, one line each, and the one routing table made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import openai, openapi, operations, predict, tei
from service.api.routes import Route, WireProtocol
from service.errors import Envelope, ErrorFormat, Problem
from service.http.middleware import Endpoint, ExchangeMiddleware
from service.state import AppState

_DESCRIBED: Sequence[WireProtocol] = (
    tei.PROTOCOL,
    openai.PROTOCOL,
    predict.PROTOCOL,
    operations.PROTOCOL,
)
PROTOCOLS = (*_DESCRIBED, openapi.describing(_DESCRIBED))
_OWNERS = {route.path: protocol for protocol in PROTOCOLS for route in protocol.routes}


def create_app(state: AppState) -> ASGIApp:
    """The service as an ASGI application. Its lifespan starts nothing: `state` is all it needs."""
    routing = RoutingTable(PROTOCOLS, state)
    state.tally.routes = tuple(routing.paths)
    keys = state.settings.api_keys
    http = ExchangeMiddleware(routing, state, state.clock.now, state.tally, keys)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            raise RuntimeError(f"{scope['type']} is not spoken here: this is a bug")

    return app


class RoutingTable:
    """Path and method → endpoint. An exact path costs two look-ups: there is no faster way beside
    it for some routes."""

    def __init__(self, protocols: Sequence[WireProtocol], state: AppState) -> None:
        self.paths: dict[str, dict[str, Endpoint]] = {}
        self._open: set[str] = set()
        for protocol in protocols:
            for route in protocol.routes:
                methods = self.paths.setdefault(route.path, {})
                methods.update(dict.fromkeys(_methods(route), partial(route.endpoint, state)))
                if route.is_open:
                    self._open.add(route.path)

    def find(self, method: str, path: str) -> Endpoint:
        methods = self.paths.get(path) or self._template(path)
        if methods is None:
            raise Problem(404, "there is no such route (GET /openapi.json lists them)")
        endpoint = methods.get(method)
        if endpoint is None:
            allowed = {"allow": ", ".join(methods)}
            raise Problem(405, "Method Not Allowed", headers=allowed)
        return endpoint

    def is_open(self, path: str) -> bool:
        return path in self._open

    def error_format(self, path: str) -> ErrorFormat:
        return _protocol_of(path).errors

    def _template(self, path: str) -> Mapping[str, Endpoint] | None:
        for known, methods in self.paths.items():
            fixed, is_template, _ = known.partition("{")
            if is_template and path.startswith(fixed):
                return methods
        return None


def envelope_of(path: str) -> Envelope:
    """How the protocol that owns a path writes its errors. Of any path."""
    return _protocol_of(path).errors.envelope


def _methods(route: Route) -> tuple[str, ...]:
    return ("GET", "HEAD") if route.method == "GET" else (route.method,)


def _protocol_of(path: str) -> WireProtocol:
    if owner := _OWNERS.get(path):
        return owner
    fitting = [each for each in PROTOCOLS if path.startswith(each.prefix or path + "/")]
    return max(fitting, key=lambda each: len(each.prefix or ""), default=PROTOCOLS[0])


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
