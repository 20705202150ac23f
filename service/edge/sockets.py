"""The listening socket, there before any model is loaded, and how many connections there may be."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

from service.edge import unix_socket
from service.settings import BadSetting, Settings

BACKLOG = 2048  # connections that may wait to be accepted
_RESERVE = 128  # descriptors for workers, logs, models and whatever a library opens


def listen(settings: Settings) -> socket.socket:
    """Raises BadSetting for a host that is none, OSError where it cannot be listened on."""
    if settings.unix_socket is not None:
        return unix_socket.listen(settings.unix_socket, BACKLOG)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: an empty or overlong label
        why = error.strerror if isinstance(error, socket.gaierror) else "no valid name"
        raise BadSetting(
            f"BATCHER_HOST={settings.host!r}: must be an address or a name that resolves to one"
            f" ({why})"
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)  # SO_REUSEADDR lets two bind; only one may listen
    except OSError:
        listener.close()
        raise
    return listener


def port_of(listener: socket.socket) -> int:
    """0: it is a unix socket."""
    address = listener.getsockname()
    return address[1] if isinstance(address, tuple) else 0


def raise_fd_limit(connections: int) -> int:
    """So that there may be as many connections, if the system allows it. Returns how many may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit, wanted = soft, connections + _RESERVE
    if resource.RLIM_INFINITY != soft < wanted:
        # No further than needed: with a limit of a billion, programs that close every
        # descriptor there could be before they start another take minutes.
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if limit != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, limit - min(_RESERVE, limit // 2)))


def has_unread_bytes(transport: asyncio.Transport) -> bool:
    """Whether bytes have arrived that the event loop has not read yet."""
    connection = transport.get_extra_info("socket")
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as plain:
            return bool(plain.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:  # nothing has, or it is closed, or there is no descriptor to look with
        return False


def address_of(transport: asyncio.Transport, name: str) -> tuple[str, int] | None:
    """`name`: peername or sockname."""
    address = transport.get_extra_info(name)
    return (address[0], address[1]) if isinstance(address, tuple) else None


def client_of(transport: asyncio.Transport) -> str:
    """The address of the other side; empty: it is not known."""
    peer = address_of(transport, "peername")
    return peer[0] if peer else ""


def count_unread(transport: asyncio.Transport, plain: asyncio.Transport | None) -> int:
    """Bytes that the other side has not taken. `plain`: the transport below, of TLS."""
    below = 0 if plain is None else plain.get_write_buffer_size()
    return below + transport.get_write_buffer_size()
