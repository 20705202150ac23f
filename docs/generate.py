"""Writes docs/configuration.md from the settings, docs/http-api.md from the route table, and
docs/metrics.md from what /metrics answers.

    python docs/generate.py

A test compares the pages with what this would write. It changes nothing else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydantic import BaseModel

from batcher import Limits
from batcher.clock import MonotonicClock
from batcher.collector import Collector
from batcher.ledger import SECONDS, Histogram
from batcher.runner import RunnerInfo
from batcher.snapshot import StageSnapshot
from service.api import descriptions
from service.api.routes import Route
from service.app import PROTOCOLS
from service.arguments import default_of
from service.catalog import primary
from service.errors import KIND_STATUSES, Problem
from service.observability.prometheus import exposition
from service.placement.nvml import FIGURES
from service.settings import PREFIX, REPLACED, Settings

FOLDER = Path(__file__).parent

# Names of settings; what is in no group is listed last.
GROUPS: Mapping[str, str] = {
    "The model": "model served_model_names strict_model_name revision runner task pooling prompt"
    " prompts trust_remote_code device dtype backend compile min_cosine cache_dir",
    "Batches and the queue": "max_batch_size max_batch_tokens max_wait_ms max_queue_size"
    " max_queue_tokens request_timeout_ms share_equal cache_bytes",
    "Processes and devices": "replicas memory_reserve_mb frontends isolation threads cpu_workers",
    "HTTP": "host port unix_socket tls_cert tls_key api_key root_path cors_origins trusted_proxies"
    " keep_alive_ms max_connections max_body_bytes max_image_pixels max_client_batch_size"
    " unknown_fields token_ids",
    "The log": "log_level log_format access_log",
    "Health and shutdown": "hang_after_ms canary_interval_ms drain_delay_ms drain_timeout_ms",
    "The simulated accelerator": "sim_fixed_ms sim_per_item_ms sim_per_token_us",
}
MADE = "<!-- Written by docs/generate.py. Change the source that it names, then run it again. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]


def configuration() -> str:
    names = [name for name in Settings.model_fields if name not in REPLACED]
    grouped = {title: group.split() for title, group in GROUPS.items()}
    rest = [name for name in names if not any(name in group for group in grouped.values())]
    lines = [
        "# Configuration",
        "",
        MADE,
        "",
        "Every setting is an environment variable and a flag: `BATCHER_MAX_BATCH_SIZE=32` is",
        "`--max-batch-size 32`. A flag overrides its variable. An unknown variable whose name",
        "begins with `BATCHER_`, or a value out of range, stops the start with exit code 2 and one",
        "line that names it. `batcher serve --print-config` prints every setting in force and its",
        "origin; `batcher serve --help` prints this page.",
        "",
        "An empty variable counts as unset. Exceptions: an empty `BATCHER_API_KEY` is refused, an",
        "empty `BATCHER_CACHE_DIR` means `off`, with a warning. Not settings, and ignored:",
        "`BATCHER_LOADTEST_…`, which the load tests read, and the variables that Kubernetes and",
        "Docker set for a service or container named `batcher`, such as `BATCHER_PORT=tcp://…`.",
    ]
    for title, group in {**grouped, "Others": rest}.items():
        if group:
            lines += ["", f"## {title}", ""]
            lines += table(("variable", "default", "what it does"), map(_setting, group))
    if REPLACED:
        lines += ["", "## Old names", "", "They work for one more release, with a warning.", ""]
        lines += table(
            ("old", "use instead"),
            ((f"`{_variable(old)}`", f"`{_variable(new)}`") for old, new in REPLACED.items()),
        )
    return "\n".join(lines) + "\n"


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _setting(name: str) -> tuple[str, str, str]:
    default = default_of(name) or "unset"
    return f"`{_variable(name)}`", default, Settings.model_fields[name].description or ""


def http_api() -> str:
    lines = [
        "# HTTP API",
        "",
        MADE,
        "",
        "`GET /docs` shows the same in a browser, offline, with a form to try each route;",
        "`GET /openapi.json` is the machine-readable form. A request body is JSON, and may be"
        " compressed with gzip or deflate.",
        "",
        "## Routes",
        "",
    ]
    rows = [
        (
            f"`{route.method} {route.path}`",
            route.summary,
            ", ".join(dict.fromkeys(primary(task) for task in route.tasks)) or "any",
            "no" if route.is_open else "yes",
        )
        for protocol in PROTOCOLS
        for route in protocol.routes
    ]
    lines += table(("route", "what it does", "task of the model", "needs the key"), rows)
    lines += [
        "",
        "*Task*: what the model must be for (`BATCHER_TASK`). A model for another task answers",
        "424, or 400 on `/v1/…`, and names the route to use. *Key*: only if `BATCHER_API_KEY` is",
        "set; it is sent as `Authorization: Bearer <key>`.",
    ]
    for protocol in PROTOCOLS:
        for route in protocol.routes:
            if route.body is not None:
                lines += ["", f"### `{route.method} {route.path}`", "", *_body(route.body)]
            if route.bodies:
                first = next(each for each in protocol.routes if each.bodies == route.bodies)
                told = _bodies(route) if first is route else ["", f"As `POST {first.path}`."]
                lines += ["", f"### `{route.method} {route.path}`", *told]
            if route.query:
                lines += ["", f"### `{route.method} {route.path}`", "", *_query(route)]
    lines += ["", "## Request headers", "", "All are optional.", ""]
    lines += table(
        ("header", "what it does"),
        ((f"`{name}`", text) for name, _, text in descriptions.REQUEST_HEADERS),
    )
    lines += [
        "",
        "## Answer headers",
        "",
        *table(
            ("header", "what it says"),
            (
                ("`X-Request-Id`", "the request's id; in the log where the request failed"),
                (
                    "`Server-Timing`",
                    "milliseconds of each phase (`tokenize`, `queue`, `inference`, `total`), and"
                    " the batch the request was in: size, tokens, why it was closed, padding, the"
                    " wait of its oldest input, and the time predicted for it",
                ),
                (
                    "`x-compute-time`, `x-total-time`, `x-tokenization-time`, `x-queue-time`,"
                    " `x-inference-time`",
                    "as text-embeddings-inference has them, on its routes: whole milliseconds,"
                    " rounded down; the last three are the mean over the inputs",
                ),
                (
                    "`x-compute-characters`, `x-compute-tokens`, `x-compute-type`",
                    "likewise: of all inputs together; `cpu` or `gpu+optimized`",
                ),
                ("`Retry-After`, `retry-after-ms`", "on 429 and 503: when to retry, with jitter"),
                ("`x-should-retry: false`", "the same request would fail again"),
            ),
        ),
        "",
        "## Statuses",
        "",
        *table(
            ("status", "meaning", "`code`"),
            (
                (str(status), text, f"`{Problem(status, '').code}`")
                for status, text in sorted(descriptions.STATUSES.items())
            ),
        ),
        "",
        "An error body is JSON in the envelope of its route and carries the request's id. Its",
        "`code` is the one above, or the kind of the error:",
        "",
        *table(
            ("code", "status", "otherwise"),
            (
                (f"`{name}`", str(status), _exceptions(name, status))
                for name, status in KIND_STATUSES.items()
            ),
        ),
        "",
        "Three more: `malformed_http` and `invalid_json` with 400, `model_not_found` with 404.",
        "",
        "The OpenAI routes, `/v1/predict` and unknown paths below `/v1/`:",
        "",
        "```text",
        '{"error": {"message": "…", "type": "…", "param": "input", "code": "empty",',
        '           "request_id": "…"}}',
        "```",
        "",
        "All other routes, as text-embeddings-inference does. A request that is refused before its",
        "route is known (malformed HTTP, a head that is too large or late, too many connections)",
        "gets this form, too:",
        "",
        "```text",
        '{"error": "…", "error_type": "Validation", "code": "empty", "request_id": "…"}',
        "```",
        "",
        "`/health` and `/health/ready`, while the service is not ready (503, with `Retry-After`):",
        "",
        "```text",
        '{"status": "not ready", "reason": "worker 0 is loading the model", "request_id": "…"}',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _exceptions(kind: str, usual: int) -> str:
    named: dict[int, list[str]] = {}
    for protocol in PROTOCOLS:
        status = protocol.errors.statuses.get(kind, usual)
        if status != usual:
            named.setdefault(status, []).extend(
                r.path for r in protocol.routes if r.body or r.bodies
            )
    return "; ".join(
        f"{status} on {', '.join(f'`{path}`' for path in dict.fromkeys(paths))}"
        for status, paths in named.items()
        if paths
    )


def _bodies(route: Route) -> list[str]:
    """By the model's task: bodies of other routes by their names, its own as tables."""
    routes = [each for protocol in PROTOCOLS for each in protocol.routes]
    elsewhere = {each.body: f"`{each.method} {each.path}`" for each in routes if each.body}
    tasks: dict[type[BaseModel], list[str]] = {}
    for task, bodies in route.bodies.items():
        for body in bodies:
            tasks.setdefault(body, []).append(task)
    lines: list[str] = []
    for body, names in tasks.items():
        if body in elsewhere:
            lines += ["", f"For {' and '.join(names)}, also the body of {elsewhere[body]}."]
        else:
            lines += ["", f"For a model of task {' or '.join(names)}:", "", *_body(body)]
    return lines


def _body(body: type[BaseModel]) -> list[str]:
    schema = body.model_json_schema()
    rows = []
    for name, field in schema["properties"].items():
        required = name in schema.get("required", ())
        notes = [str(field.get("description", "")).rstrip(".")]
        if not required and field.get("default") is not None:
            notes.append(f"default `{str(field['default']).lower()}`")
        rows.append((f"`{name}`", "yes" if required else "", "; ".join(filter(None, notes))))
    return table(("field", "required", "what it is"), rows)


def _query(route: Route) -> list[str]:
    rows = []
    for each in route.query:
        schema = each["schema"]
        values = "a text"
        if "minimum" in schema:
            values = f"{schema['minimum']} to {schema['maximum']}; default `{schema['default']}`"
        rows.append((f"`?{each['name']}=`", f"{each['description']}: {values}"))
    return table(("parameter", "what it is"), rows)


def metrics() -> str:
    page = _metrics_page()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE))
    rows = [
        (f"`{name}`", kinds[name], _labels(name, page), text)
        for name, text in re.findall(r"^# HELP (\w+) (.*)$", page, re.MULTILINE)
    ]
    of_gpus = [
        (
            f"`batcher_{figure.name}{'_total' * figure.is_counter}`",
            "counter" if figure.is_counter else "gauge",
            "`device`",
            figure.help,
        )
        for figure in FIGURES
    ]
    head = ("metric", "type", "labels", "what it is")
    lines = [
        "# Metrics",
        "",
        MADE,
        "",
        "What `GET /metrics` answers, in the text format of Prometheus.",
        "[operations](operations.md#metrics) says which ones to watch.",
        "",
        *table(head, rows),
        "",
        "`batcher_front_up` is there with more than one HTTP process only; what is of stages or of",
        "CPU workers, with a model of your own whose `preprocess` or `postprocess` is in CPU",
        "processes.",
        "",
        "## GPUs",
        "",
        "With the extra `gpu`, for each device that a replica runs on, if its driver reports it:",
        "",
        *table(head, of_gpus),
    ]
    return "\n".join(lines) + "\n"


def _metrics_page() -> str:
    """With a sample of every metric."""
    collector = Collector(Limits(), MonotonicClock())
    collector.replica_up(0, RunnerInfo())
    collector.replica_down(0, "a cause")
    snapshot = collector.snapshot()
    nothing = Histogram(SECONDS).snapshot()
    snapshot = replace(
        snapshot,
        refused={"a reason": 1},
        batches={"a reason": 1},
        stages={"preprocess": StageSnapshot(0, 0, 0, nothing, nothing)},
        cpu_workers=snapshot.replicas,
    )
    http = {("/a", "ok"): Histogram(SECONDS).snapshot()}
    return exposition(snapshot, http, {0: True}, "", "").decode()


def _labels(metric: str, page: str) -> str:
    [sample, *_] = re.findall(rf"^{metric}(?:_bucket)?(?:{{(.*)}})? [^ ]+$", page, re.MULTILINE)
    return ", ".join(f"`{name}`" for name in re.findall(r'(\w+)="', sample) if name != "le")


def pages() -> Mapping[Path, str]:
    return {
        FOLDER / "configuration.md": configuration(),
        FOLDER / "http-api.md": http_api(),
        FOLDER / "metrics.md": metrics(),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
        print(page)
