"""What schemathesis is told of the service, named in openapi.toml: what no JSON schema can say."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.api.vllm.score import NAMES

_MADE_UP = "x-schemathesis-unknown-property"
_TIMEOUTS = ("x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms")
_SHORT = 10_000  # milliseconds
_REFUSED = (400, 422)
_UNKNOWABLE = "unacceptable_input"
_NOT_OFFERED = 501  # what routes answer that only say that there is no such extension


@schemathesis.hook  # type: ignore[untyped-decorator]  # its types are not looked at
def filter_case(context: HookContext, case: Case) -> bool:
    """Unknown header fields are ignored (RFC 9110, section 5.1), so bringing one is valid. Tensors
    are described of one row or two."""
    if case.path.endswith("/infer") and isinstance(case.body, dict) and _is_undescribed(case.body):
        return False
    return _MADE_UP not in _headers(case)


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


@schemathesis.check  # type: ignore[untyped-decorator]  # its types are not looked at
def valid_data_acceptance(ctx: CheckContext, response: Any, case: Case) -> bool | None:
    """Instead of positive_data_acceptance, which openapi.toml turns off. Calls that the document
    calls valid may be refused for good: one that is given too little time for all of its inputs,
    two lists that must be of the same length and are not, and what only the model can know, such as
    an image that is none, where its dialect has 400 for that, not 422. A route of an extension that
    is not offered refuses all."""
    if response.status_code in _REFUSED and (
        _is_hurried(case) or _differ_in_length(case.body) or _code(response) == _UNKNOWABLE
    ):
        return None
    if response.status_code == _NOT_OFFERED:
        return None
    accepted: bool | None = positive_data_acceptance(ctx, response, case)
    return accepted


def _code(response: Any) -> object:
    """In whichever envelope."""
    told = response.json()
    within = told.get("error") if isinstance(told, dict) else None
    return within.get("code") if isinstance(within, dict) else told.get("code")


def _headers(case: Case) -> dict[str, str]:
    return {name.lower(): str(value) for name, value in case.headers.items()}


def _is_hurried(case: Case) -> bool:
    given = [_headers(case).get(name, "") for name in _TIMEOUTS]
    return any(one.isdecimal() and int(one) < _SHORT for one in given)


def _differ_in_length(body: Any) -> bool:
    if not isinstance(body, dict):
        return False
    for first, second in NAMES:
        ones, others = body.get(first), body.get(second)
        if isinstance(ones, list) and len(ones) > 1:
            return not isinstance(others, list) or len(others) != len(ones)
    return False
