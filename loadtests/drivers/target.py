"""Where requests go. Only the loopback: a load test aimed elsewhere by a slip is an attack."""

import argparse
import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """One HTTP server on this machine."""

    host: str
    port: int
    is_tls: bool = False
    unix: str = ""  # the path of its socket, instead of host and port

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' * self.is_tls}://{host}:{self.port}"

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Trusts any certificate: a load test's own servers sign theirs themselves."""
        if not self.is_tls:
            return None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def post(self, path: str, body: bytes) -> bytes:
        """The whole HTTP/1.1 request, ready to write: encoding it is not the driver's hot path."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body


def parse_target(url: str) -> Target:
    """`http://127.0.0.1:8000` → Target. Raises ValueError for any host but the loopback."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    if parts.scheme not in ("", "http"):
        raise ValueError(f"{url}: only http:// can be driven")
    host = "127.0.0.1" if parts.hostname in (None, "localhost") else str(parts.hostname)
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False  # A name could resolve to anywhere.
    if not loopback:
        raise ValueError(f"{url}: load tests drive the loopback only (127.0.0.0/8, ::1, localhost)")
    return Target(host, parts.port if parts.port is not None else 8000)


def target_argument(text: str) -> Target:
    """`parse_target` for argparse: the message reaches the user."""
    try:
        return parse_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def number_between(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: every quantity has bounds, checked before anything starts."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return number


def count_between(low: int, high: int) -> Callable[[str], int]:
    """As `number_between`, for whole numbers."""

    def count(text: str) -> int:
        value = number_between(low, high)(text)
        if value != int(value):
            raise argparse.ArgumentTypeError(f"{text} is not a whole number")
        return int(value)

    return count


def cpus_argument(text: str) -> frozenset[int]:
    """`0,1` → {0, 1}."""
    try:
        return frozenset(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of cores like 0,1") from error


def setting_argument(text: str) -> tuple[str, str]:
    """`max_batch_size=8`, a setting of the service by its name without the prefix."""
    name, equals, value = text.partition("=")
    if not (equals and name.replace("_", "").isalnum()):
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name.lower(), value
