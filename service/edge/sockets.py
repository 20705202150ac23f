"""The listening socket: there from the first moment, before any model is loaded."""

from __future__ import annotations

import socket

from service.settings import BadSetting, Settings

BACKLOG = 2048  # connections that may wait to be accepted


def listen(settings: Settings) -> socket.socket:
    """Raises BadSetting for a host that is none, OSError where it cannot be listened on."""
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
