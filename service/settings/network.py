"""The settings of the address that the service listens on, and of who may speak with it."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

UNIX = "unix"  # among the trusted proxies: whoever connects by the unix socket
_MAX_SOCKET_PATH = 107  # bytes: sun_path of unix(7), less the zero at its end
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def listed_origins(given: str | None) -> str | None:
    """As browsers write them. Raises PydanticCustomError for one that no browser would send."""
    if given is None or given.strip() == "*":
        return given and "*"
    return ",".join(_origin(each.strip().lower()) for each in given.split(","))


def _origin(given: str) -> str:
    found = _ORIGIN.fullmatch(given)
    if found is None:
        raise PydanticCustomError(
            "clause",
            "must be origins as browsers send them, such as https://app.example.com, separated by"
            " commas, or * alone",
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (port if port and port != _DEFAULT_PORTS.get(scheme) else "")


def path_prefix(given: str | None) -> str | None:
    """Without a slash at its end. Raises PydanticCustomError for what is no path."""
    if given is None or given == "/":
        return None
    path = given.removesuffix("/")
    if not _ROOT_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise PydanticCustomError(
            "clause", "must be a path of letters, digits and . _ ~ - such as /models/embed"
        )
    return path


def socket_path(given: str | None) -> str | None:
    """As given. Raises PydanticCustomError for one that is too long for the kernel."""
    if given is not None and (len(os.fsencode(given)) > _MAX_SOCKET_PATH or "\0" in given):
        raise PydanticCustomError("clause", f"must have at most {_MAX_SOCKET_PATH} bytes")
    return given


def listed_networks(given: str | None) -> str | None:
    """As given. Raises PydanticCustomError for one that is none."""
    for each in [] if given is None else given.split(","):
        if each.strip() == UNIX:
            continue
        try:
            ip_network(each.strip(), strict=False)
        except ValueError:
            raise PydanticCustomError(
                "clause",
                "must be addresses or networks such as 10.0.0.0/8, separated by commas, or unix for"
                " the unix socket",
            ) from None
    return given


class NetworkSettings(BaseSettings):
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address to listen on; 0.0.0.0: all interfaces, which BATCHER_API_KEY should"
        " protect",
    )
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0: any free one")
    unix_socket: Annotated[str | None, AfterValidator(socket_path)] = Field(
        None,
        min_length=1,
        description="path of a unix socket to listen on, instead of BATCHER_HOST and BATCHER_PORT."
        " The umask decides the permissions of its file",
    )
    tls_cert: str | None = Field(
        None,
        min_length=1,
        description="file with the TLS certificate and its chain, in PEM: the service speaks https."
        " Read again on SIGHUP",
    )
    tls_key: str | None = Field(
        None,
        min_length=1,
        description="file with the private key of the certificate, in PEM and not encrypted; unset:"
        " the key is in the file BATCHER_TLS_CERT",
    )
    root_path: Annotated[str | None, AfterValidator(path_prefix)] = Field(
        None,
        description="path prefix under which a proxy offers the service, such as /embed-service:"
        " requests are served with the prefix and without it",
    )
    cors_origins: Annotated[str | None, AfterValidator(listed_origins)] = Field(
        None,
        description="origins whose web pages may call the service from a browser, separated by"
        " commas; *: any. Pages send a key in a header like other clients; cookies are not read",
    )
    trusted_proxies: Annotated[str | None, AfterValidator(listed_networks)] = Field(
        None,
        description="addresses or networks of reverse proxies, separated by commas. X-Forwarded-For"
        " names the client if it comes from one of these; otherwise it is ignored",
    )
    keep_alive_ms: Annotated[float, Field(allow_inf_nan=False)] = Field(
        130_000.0,
        ge=1_000,
        le=3_600_000,
        description="milliseconds after which an idle connection is closed. Behind a reverse proxy,"
        " set it above the proxy's idle timeout, so that the proxy closes first",
    )

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        return tuple(self.cors_origins.split(",")) if self.cors_origins else ()

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        given = self._trusted()
        return tuple(ip_network(each, strict=False) for each in given if each != UNIX)

    @property
    def trusts_unix_socket(self) -> bool:
        return UNIX in self._trusted()

    def unused(self) -> list[str]:
        """Settings that have no effect beside others, one line each."""
        lines = []
        ignored = [each for each in ("host", "port") if each in self.model_fields_set]
        if self.unix_socket is not None and ignored:
            names = " and ".join(f"BATCHER_{each.upper()}" for each in ignored)
            lines.append(f"{names} unused: BATCHER_UNIX_SOCKET is what the service listens on")
        if self.trusts_unix_socket and self.unix_socket is None:
            lines.append("BATCHER_TRUSTED_PROXIES: unix has no effect without BATCHER_UNIX_SOCKET")
        if self.proxy_networks and self.unix_socket is not None:
            lines.append(
                "BATCHER_TRUSTED_PROXIES: nobody connects from an address with BATCHER_UNIX_SOCKET;"
                " add unix to trust the proxy on the socket"
            )
        return lines

    def _trusted(self) -> list[str]:
        given = self.trusted_proxies
        return [] if given is None else [each.strip() for each in given.split(",")]
