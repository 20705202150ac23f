"""One real service with all that is between it and its clients: frontends, a unix socket, TLS, a
path prefix, and a proxy that it trusts."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2

from tests.service.certificates import make_certificate
from tests.service.processes.test_server import DEADLINE, ROOT


def test_a_service_of_frontends_on_a_unix_socket_with_tls_behind_a_proxy(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "one")
    other = make_certificate(tmp_path, "other")
    path = tmp_path / "batcher.sock"
    log = tmp_path / "log"
    flags = ["--runner", "simulated", "--isolation", "thread", "--frontends", "2"]
    flags += ["--unix-socket", str(path), "--tls-cert", str(cert), "--tls-key", str(key)]
    flags += ["--root-path", "/models/a", "--trusted-proxies", "unix", "--access-log", "all"]
    flags += ["--drain-delay-ms", "0", "--cache-dir", "off"]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        banner = ""
        while "curl" not in banner:
            line = process.stdout.readline()
            assert line, log.read_text()
            banner += line
        assert f"the unix socket {path}" in banner
        assert f"curl --unix-socket {path} https://localhost/" in banner

        def ask(trusted: Path) -> int:
            verify = ssl.create_default_context(cafile=str(trusted))
            transport = httpx2.HTTPTransport(uds=str(path), verify=verify)
            with httpx2.Client(transport=transport, timeout=DEADLINE) as http:
                headers = {"X-Forwarded-For": "203.0.113.7"}
                url = "https://localhost/models/a/embed"
                return http.post(url, json={"inputs": "a"}, headers=headers).status_code

        assert ask(cert) == 200
        cert.write_bytes(other[0].read_bytes())
        key.write_bytes(other[1].read_bytes())
        process.send_signal(signal.SIGHUP)
        while len(re.findall("get the new TLS certificate", log.read_text())) < 2:
            assert process.poll() is None, log.read_text()
            os.sched_yield()
        assert [ask(cert) for _ in range(4)] == [200] * 4
        # A renewal that fails half-way does not keep a frontend from coming up again.
        cert.write_text("nothing")
        process.send_signal(signal.SIGHUP)
        first = re.search("frontend-0: .* started as process ([0-9]+)", log.read_text())
        assert first is not None, log.read_text()
        os.kill(int(first[1]), signal.SIGKILL)
        while "frontend-0 is up again" not in log.read_text():
            assert process.poll() is None, log.read_text()
            os.sched_yield()
        assert "the old one stays: BATCHER_TLS_CERT" in log.read_text()
        assert [ask(other[0]) for _ in range(4)] == [200] * 4
        assert "POST /embed 200" in log.read_text()
        assert "client 203.0.113.7" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
        assert not path.exists()
    finally:
        process.kill()
        process.communicate()
