"""The wrk load generator: closed loop, one thread, hardly any CPU beside the server's."""

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.drivers.pinning import pinned
from loadtests.drivers.target import Target

BODIES = 2048  # Different bodies, so that equal inputs are not in flight together.

_POST = """
local requests, next = {}, 0
function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for n = 1, %(bodies)d do
    requests[n] = wrk.format(nil, nil, nil, string.format('{"inputs": "%(text)s %%d"}', n))
  end
end
function request()
  next = next %% %(bodies)d + 1
  return requests[next]
end
"""


_ROTATE = """
local requests, next = {}, 0
function init(args)
  wrk.headers["Content-Type"] = "application/json"
  for body in io.lines("%(bodies)s") do
    requests[#requests + 1] = wrk.format("POST", nil, nil, body)
  end
end
function request()
  next = next %% #requests + 1
  return requests[next]
end
function done(summary, latency)
  io.write(string.format("Measured: %%d %%.0f %%.0f %%.0f\\n", summary.requests,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class WrkReport:
    requests_per_s: float
    errors: int  # Answers other than 2xx and 3xx, and socket errors.
    requests: int = 0  # This and the latencies: `post_bodies` only.
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


def post_embed(
    target: Target, text: str, connections: int, seconds: float, cpus: frozenset[int] | None
) -> WrkReport:
    """POST /embed with `text` and a number. `text` must need no escaping in JSON or Lua."""
    if not re.fullmatch(r"[\w .,]+", text):
        raise ValueError(f"{text!r} would need escaping")
    with tempfile.TemporaryDirectory(prefix="loadtests-") as folder:
        script = Path(folder, "post.lua")
        script.write_text(_POST % {"bodies": BODIES, "text": text})
        process = _start(target, "/embed", connections, seconds, cpus, script)
        return _finish(process, seconds)


def post_bodies(
    target: Target,
    path: str,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    cpus: frozenset[int] | None = None,
) -> WrkReport:
    """POST `path` with each of the bodies in turn, going round. A body is one line."""
    with tempfile.TemporaryDirectory(prefix="loadtests-") as folder:
        lines, script = Path(folder, "bodies"), Path(folder, "rotate.lua")
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        script.write_text(_ROTATE % {"bodies": lines})
        process = _start(target, path, connections, seconds, cpus, script)
        return _finish(process, seconds)


@contextlib.contextmanager
def getting(
    target: Target, path: str, connections: int, seconds: float, cpus: frozenset[int] | None
) -> Iterator[list[WrkReport]]:
    """GET `path` flat out for `seconds`, beside the block; then the list holds the report."""
    reports: list[WrkReport] = []
    process = _start(target, path, connections, seconds, cpus)
    try:
        yield reports
        reports.append(_finish(process, seconds))
    finally:
        process.kill()
        process.wait()


def _start(
    target: Target,
    path: str,
    connections: int,
    seconds: float,
    cpus: frozenset[int] | None,
    script: Path | None = None,
) -> subprocess.Popen[str]:
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed (on Debian: apt-get install wrk)")
    command = ["wrk", "--threads", "1", "--connections", str(connections)]
    command += [
        "--duration",
        f"{max(1, round(seconds))}s",
        "--timeout",
        "20s",  # A slow answer is an answer; 2 s, its default, would count it among the errors.
        *(["-s", str(script)] if script else []),
    ]
    with pinned(cpus):
        return subprocess.Popen(
            [*command, target.url + path],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _finish(process: subprocess.Popen[str], seconds: float) -> WrkReport:
    output, _ = process.communicate(timeout=seconds + 30)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    if process.returncode or rate is None:
        raise RuntimeError(f"wrk failed ({process.returncode}): {output[-2000:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    sockets = re.search(r"Socket errors: (.*)", output)
    errors = int(bad[1]) if bad else 0
    if sockets:
        errors += sum(int(count) for count in re.findall(r"\d+", sockets[1]))
    measured = re.search(r"Measured: (\d+) (\d+) (\d+) (\d+)", output)
    if measured is None:
        return WrkReport(float(rate[1]), errors)
    requests, p50, p95, p99 = (int(number) for number in measured.groups())
    return WrkReport(float(rate[1]), errors, requests, p50 / 1e3, p95 / 1e3, p99 / 1e3)
