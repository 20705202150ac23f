"""One GET, however the server listens: over TCP, with TLS, or on a unix socket."""

import http.client
import socket

from loadtests.drivers.target import Target


def get(target: Target, path: str, timeout: float) -> tuple[int, bytes]:
    """On a connection of its own. Raises OSError when nobody answers."""
    connection = _connection(target, timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _connection(target: Target, timeout: float) -> http.client.HTTPConnection:
    host, port = target.host, target.port
    if (context := target.tls) is not None:
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    if target.unix:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(target.unix)
    return connection
