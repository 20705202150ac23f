"""The TLS certificate of the service, read at start and again when it is renewed."""

from __future__ import annotations

import logging
import ssl

from service.settings import BadSetting, Settings

_log = logging.getLogger("service")


class Certificate:
    """`context` is for new connections; those that are open keep theirs."""

    def __init__(self, settings: Settings) -> None:
        """Raises BadSetting."""
        self._settings = settings
        self.context = _load(settings)

    @classmethod
    def of(cls, settings: Settings) -> Certificate | None:
        """None: the service speaks plain HTTP. Raises BadSetting."""
        return None if settings.tls_cert is None else cls(settings)

    def reload(self) -> None:
        """Keeps the old one if the files are not fit for use, as when only one is written yet."""
        try:
            self.context = _load(self._settings)
        except BadSetting as error:
            _log.error("the TLS certificate is not reloaded, the old one stays: %s", error)
        else:
            _log.info("the TLS certificate is reloaded, for new connections")


def check_tls(settings: Settings) -> None:
    """Raises BadSetting."""
    if settings.tls_key is not None and settings.tls_cert is None:
        raise BadSetting(
            f"BATCHER_TLS_KEY={settings.tls_key!r}: needs BATCHER_TLS_CERT, the certificate"
        )
    Certificate.of(settings)


def _load(settings: Settings) -> ssl.SSLContext:
    """Not into a context in use: one that fails half-way would be left with half of it."""
    cert, key = settings.tls_cert, settings.tls_key
    assert cert is not None, "TLS without a certificate: this is a bug"
    for name, path in (("TLS_CERT", cert), ("TLS_KEY", key)):
        if path is not None:
            _check_readable(name, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a function OpenSSL would ask for the password on the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except BadSetting:
        where = f"BATCHER_TLS_KEY={key!r}" if key else f"BATCHER_TLS_CERT={cert!r}"
        raise BadSetting(
            f"{where}: the key is encrypted; a key without a password is needed"
        ) from None
    except ssl.SSLError as error:
        raise BadSetting(_explain(cert, key, error)) from None
    return context


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise BadSetting(f"BATCHER_{name}={path!r}: cannot be read: {error.strerror}") from None


def _no_password() -> str:
    raise BadSetting("there is no password")


def _explain(cert: str, key: str | None, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"BATCHER_TLS_KEY={key or cert!r}: the key of another certificate than {cert!r}"
    if key is None:
        return (
            f"BATCHER_TLS_CERT={cert!r}: no certificate and key in PEM"
            " (BATCHER_TLS_KEY names the key where it has a file of its own)"
        )
    return f"BATCHER_TLS_CERT={cert!r}, BATCHER_TLS_KEY={key!r}: no certificate and key in PEM"
