"""What a proxy in front changes of a request: undone here, before anything else looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Header

_MAX_PROXIES = 32  # one behind the other
_LONGEST = 64  # characters of an address with a port

Network = IPv4Network | IPv6Network


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


class ForwardedClient:
    """Where a trusted proxy connects, the client is whom it forwards, not the proxy."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            peer = scope.get("client")
            address = peer[0] if peer else ""
            forwarded = self._proxies.client(address, scope["headers"])
            if forwarded != address:
                scope["client"] = (forwarded, 0)
        await self._app(scope, receive, send)


class TrustedProxies:
    """`X-Forwarded-For` is written by proxies, each of which appends the address that connected to
    it, and can be forged by clients. So it is read from the right, as far as each address is a
    trusted proxy's: the first that is not is the client's."""

    def __init__(self, networks: Sequence[Network], unix: bool = False) -> None:
        """`unix`: whoever connects by the unix socket is a proxy."""
        self._networks = networks
        self._unix = unix
        # A service has few proxies: each address is taken apart once.
        self._is_trusted = lru_cache(maxsize=1024)(self._look_up)

    def client(self, peer: str, headers: Iterable[Header]) -> str:
        """`peer`: the address that has connected; empty: by the unix socket. Any headers are fine:
        what is no address ends the list, and the last address before it counts."""
        client = peer
        for address in _forwarded(headers):
            if not self._is_trusted(client) or not address:
                break
            client = address
        return client

    def _look_up(self, text: str) -> bool:
        if not text:
            return self._unix
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def _forwarded(headers: Iterable[Header]) -> Iterator[str]:
    """The addresses from the right, at most _MAX_PROXIES; an empty one for what is no address."""
    given = [value for name, value in headers if name == b"x-forwarded-for"]
    if not given:
        return
    items = b",".join(given).rsplit(b",", _MAX_PROXIES)
    for item in items[-_MAX_PROXIES:][::-1]:
        text = item.strip().decode("latin-1")
        address = _address(_without_port(text)) if len(text) <= _LONGEST else None
        yield str(address or "")


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address that is written as IPv6, as a socket for both gives it, is the IPv4 one."""
    if "%" in text:  # a zone, which may be any text, and means nothing on another machine
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
