"""Hooks of schemathesis, named in openapi.toml: cases that no answer violates."""

from typing import Any

import schemathesis
from schemathesis import Case, HookContext

from service.api.vllm.score import NAMES

_MADE_UP = "x-schemathesis-unknown-property"
_TIMEOUTS = ("x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms")


@schemathesis.hook  # type: ignore[untyped-decorator]  # its types are not looked at
def filter_case(context: HookContext, case: Case) -> bool:
    """Unknown header fields are ignored (RFC 9110, section 5.1), so bringing one is valid. JSON
    Schema cannot say that two lists must be of the same length. Of POST /pooling a body may ask for
    the task that the model has not: that is refused, and not a fault of the body's shape; nor is
    a call of several inputs that is given no time. Tensors are described of one row or two."""
    headers = {name.lower(): value for name, value in case.headers.items()}
    if _MADE_UP in headers or any(_is_short(headers.get(name, "")) for name in _TIMEOUTS):
        return False
    if case.path.endswith("/infer") and isinstance(case.body, dict) and _is_undescribed(case.body):
        return False
    if case.path == "/pooling" and isinstance(case.body, dict) and case.body.get("task"):
        return False
    return not isinstance(case.body, dict) or not _differ_in_length(case.body)


def _is_undescribed(body: dict[str, Any]) -> bool:
    """Right or wrong by what JSON Schema does not say of tensors, or given no time."""
    parameters, outputs = body.get("parameters"), body.get("outputs")
    timeout = parameters.get("timeout") if isinstance(parameters, dict) else None
    if isinstance(timeout, int | float) and 0 < timeout < 10_000_000:  # microseconds
        return True
    given = body.get("inputs")
    inputs = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    names = [str(each.get("name")) for each in inputs]
    return (
        (isinstance(outputs, list) and len(outputs) > 1)
        or len(set(names)) < len(names)
        or any(each.get("shape") not in ([1], [2]) for each in inputs)
        or any(isinstance(one, list) for each in inputs for one in _list(each.get("data")))
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_short(timeout: object) -> bool:
    return str(timeout).isdecimal() and int(str(timeout)) < 10_000  # milliseconds


def _differ_in_length(body: dict[str, Any]) -> bool:
    for first, second in NAMES:
        ones, others = body.get(first), body.get(second)
        if isinstance(ones, list) and len(ones) > 1:
            return not isinstance(others, list) or len(others) != len(ones)
    return False
