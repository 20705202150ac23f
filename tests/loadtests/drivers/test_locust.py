"""Claims about Locust's page and its form. One test with a real Locust; its target is a stub."""

import itertools
import json
import re
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtests.drivers.locust import ROOT, refusal

TIMEOUT = 30.0  # seconds
USERS = 5
FORM = {"host": "http://127.0.0.1:8000", "rate": "50.0", "texts": "short", "seed": "1"}


def test_the_form_as_the_page_sends_it_may_start():
    assert refusal({"user_count": "5", "spawn_rate": "1", **FORM}) is None


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("host", "http://192.0.2.1", "loopback only"),
        ("rate", "0", "not between"),
        ("rate", "fast", "not a number"),
        ("texts", "long", "not one of"),
        ("seed", "", "not a whole number"),
    ],
)
def test_a_bad_field_is_named_with_its_reason(field: str, value: str, reason: str):
    refused = refusal({**FORM, field: value})
    assert refused is not None
    assert refused.startswith(f"{field}: ")
    assert reason in refused


class Target(ThreadingHTTPServer):
    """Answers each POST with an empty list; `asked` is set once more than USERS have come, so that
    at least one user has had its answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TargetHandler)
        self.requests = itertools.count(1)
        self.asked = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class TargetHandler(BaseHTTPRequestHandler):
    server: Target

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")
        if next(self.server.requests) > USERS:
            self.server.asked.set()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as target:
        thread = threading.Thread(target=target.serve_forever)
        thread.start()
        yield target
        target.shutdown()
        thread.join(TIMEOUT)


@pytest.fixture
def page(target: Target) -> Iterator[str]:
    """The address of Locust's page. Locust listens before it prints its last line of the start."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as reserved:
        port = reserved.server_port
    command = [sys.executable, "-c", LOCUST, "-f", str(ROOT / "loadtests/locustfile.py")]
    command += ["--host", target.url, "--web-host", "127.0.0.1", "--web-port", str(port)]
    locust = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert locust.stdout is not None
    try:
        assert locust.stdout.readline() == "listening\n"
        yield f"http://127.0.0.1:{port}"
    finally:
        locust.terminate()
        locust.communicate(timeout=TIMEOUT)


LOCUST = """
import locust.main
from gevent.pywsgi import WSGIServer
started = WSGIServer.start
def start(server):
    started(server)
    print("listening", flush=True)
WSGIServer.start = start
locust.main.main()
"""


def ask(url: str, form: dict[str, str] | None = None) -> str:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, TIMEOUT) as answer:
        text: str = answer.read().decode()
    return text


def test_the_page_starts_users_shows_their_latency_and_stops(page: str, target: Target):
    options = re.search(r"window.templateArgs = (.*?)[;]?\n", ask(page))
    assert options is not None
    extra = json.loads(options[1])["extra_options"]
    # As the page does: each field of the form, an empty one for what has no value.
    form = {name: str(option["default_value"] or "") for name, option in extra.items()}
    form |= {"user_count": str(USERS), "spawn_rate": "5", "host": target.url}
    assert json.loads(ask(f"{page}/swarm", form))["success"]
    assert target.asked.wait(TIMEOUT), "Locust runs and sends nothing"
    ask(f"{page}/stop", {})
    stats = json.loads(ask(f"{page}/stats/requests"))
    assert stats["state"] == "stopped"
    [total] = [row for row in stats["stats"] if row["name"] == "Aggregated"]
    assert total["num_requests"] >= 1
    assert total["num_failures"] == 0
    assert {"median_response_time", "response_time_percentile_0.95"} <= total.keys()
    refused = json.loads(ask(f"{page}/swarm", {**form, "host": "http://192.0.2.1"}))
    assert not refused["success"]
    assert "loopback only" in refused["message"]
