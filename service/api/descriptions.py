"""What a status and a request header mean, in words: for /openapi.json and docs/http-api.md."""

from __future__ import annotations

from typing import Any

from service.http.headers import MAX_TIMEOUT_MS

_TEXT: dict[str, Any] = {"type": "string"}

STATUSES = {
    400: "malformed; the message names the field and the rule",
    401: "the API key is missing or wrong",
    404: "unknown route or model",
    405: "method not allowed",
    408: "the body did not arrive in time",
    413: "the body is too large",
    414: "the URL is too long",
    415: "not JSON, or compressed with anything but gzip or deflate",
    417: "an Expect header other than 100-continue",
    422: "well-formed, but over a limit or not acceptable to this model",
    424: "the model is for another task",
    429: "overloaded; retry after Retry-After",
    431: "too many headers, or too large",
    500: "the model failed on this input, or the service has a bug",
    501: "an extension of Triton's that is not offered",
    503: "not ready, draining, or the worker was lost; retry after Retry-After",
    504: "the deadline passed",
}
REQUEST_HEADERS = [
    (
        "X-Request-Id",
        _TEXT,
        "echoed if it is 1 to 128 of A-Z a-z 0-9 . _ : -; otherwise replaced by a new id",
    ),
    (
        "X-Request-Timeout-Ms",
        {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
        "deadline, in milliseconds from the arrival, 1 to 3600000: 429 at once if the service"
        " predicts to miss it, 504 if it does miss it",
    ),
    (
        "X-Envoy-Expected-Rq-Timeout-Ms",
        _TEXT,
        "set by a service mesh: a deadline where there is no X-Request-Timeout-Ms, if it is shorter"
        " than BATCHER_REQUEST_TIMEOUT_MS; any other value is ignored",
    ),
    (
        "Priority",
        {"type": "string", "examples": ["u=1"]},
        "u=0 is soonest, u=3 the default, u=7 last (RFC 9218); anything else counts as u=3."
        " u=4 to u=7 are bulk: they get the capacity that u=0 to u=3 leave. A priority in the body"
        " wins",
    ),
]
