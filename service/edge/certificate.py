"""The TLS certificate of the service, read at start and again when it is renewed."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

from service.settings import BadSetting, Settings

_MAX_BYTES = 40_000  # of both files: they pass through a control channel, in base64

_log = logging.getLogger("service")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """What they held when they were read. Must not be logged."""

    cert: bytes = field(repr=False)
    key: bytes | None = field(repr=False)  # None: it is in `cert`

    @classmethod
    def read(cls, settings: Settings) -> CertificateFiles:
        """Raises BadSetting."""
        cert, key = settings.tls_cert, settings.tls_key
        assert cert is not None, "TLS without a certificate: this is a bug"
        return cls(_read("TLS_CERT", cert), None if key is None else _read("TLS_KEY", key))

    def as_json(self) -> list[str | None]:
        """For a frontend that runs. Its order is that of the fields."""
        return [_as_text(self.cert), None if self.key is None else _as_text(self.key)]

    @classmethod
    def from_json(cls, given: list[str | None]) -> CertificateFiles:
        cert, key = given
        return cls(base64.b64decode(cert or ""), None if key is None else base64.b64decode(key))

    def context(self) -> ssl.SSLContext:
        """A new one: one that fails half-way would be left with half of it. Raises SSLError, and
        BadSetting for an encrypted key."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.options |= ssl.OP_NO_RENEGOTIATION  # it costs a client less than the server
        context.set_alpn_protocols(["http/1.1"])
        with _file_of(self.cert) as cert, _file_of(self.key or self.cert) as key:
            # Without a function OpenSSL would ask for the password on the terminal.
            context.load_cert_chain(cert, key, password=_no_password)
        return context


class Certificate:
    """`context` is for new connections; those that are open keep theirs."""

    def __init__(self, files: CertificateFiles) -> None:
        """`files` that are known to be fit for use."""
        self.use(files)

    @classmethod
    def of(cls, settings: Settings) -> Certificate | None:
        """None: the service speaks plain HTTP. Raises BadSetting."""
        if settings.tls_cert is not None:
            return cls(_checked(settings))
        if settings.tls_key is not None:
            raise BadSetting(
                f"BATCHER_TLS_KEY={settings.tls_key!r}: needs BATCHER_TLS_CERT, the certificate"
            )
        return None

    def use(self, files: CertificateFiles) -> None:
        self.files = files
        self.context = files.context()

    def reload(self, settings: Settings) -> bool:
        """Keeps the old one if the files are not fit for use, as when only one is written yet:
        False."""
        try:
            self.use(_checked(settings))
        except BadSetting as error:
            _log.error("the TLS certificate is not reloaded, the old one stays: %s", error)
            return False
        _log.info("the TLS certificate is reloaded, for new connections")
        return True


def _checked(settings: Settings) -> CertificateFiles:
    """Raises BadSetting."""
    files = CertificateFiles.read(settings)
    cert, key = settings.tls_cert, settings.tls_key
    if len(files.cert) + len(files.key or b"") > _MAX_BYTES:
        raise BadSetting(
            f"BATCHER_TLS_CERT={cert!r}: more than {_MAX_BYTES} bytes of certificates and key; only"
            " the service's own certificate and its chain are needed"
        )
    try:
        files.context()
    except BadSetting:
        where = f"BATCHER_TLS_KEY={key!r}" if key else f"BATCHER_TLS_CERT={cert!r}"
        raise BadSetting(
            f"{where}: the key is encrypted; a key without a password is needed"
        ) from None
    except ssl.SSLError as error:
        raise BadSetting(_explain(cert, key, error)) from None
    return files


def _as_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _read(name: str, path: str) -> bytes:
    """Raises BadSetting."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BadSetting(f"BATCHER_{name}={path!r}: cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """In memory: the ssl module reads files only."""
    descriptor = os.memfd_create("tls")
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _no_password() -> str:
    raise BadSetting("there is no password")


def _explain(cert: str | None, key: str | None, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"BATCHER_TLS_KEY={key or cert!r}: the key of another certificate than {cert!r}"
    if key is None:
        return (
            f"BATCHER_TLS_CERT={cert!r}: no certificate and key in PEM"
            " (BATCHER_TLS_KEY names the key where it has a file of its own)"
        )
    return f"BATCHER_TLS_CERT={cert!r}, BATCHER_TLS_KEY={key!r}: no certificate and key in PEM"
