"""A self-signed certificate for a server that is measured, made by OpenSSL's command."""

import subprocess
from pathlib import Path


def make(folder: Path) -> tuple[Path, Path]:
    """The files of the certificate and of its key. Raises FileNotFoundError without openssl."""
    cert, key = folder / "server.crt", folder / "server.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert), "-days", "2"]
    command = ["openssl", "req", "-x509", *curve, *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return cert, key
