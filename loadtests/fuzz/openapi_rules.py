"""Hooks of schemathesis, named in openapi.toml: cases that no answer violates."""

from typing import Any

import schemathesis
from schemathesis import Case, HookContext

from service.api.vllm.score import NAMES

_MADE_UP = "x-schemathesis-unknown-property"


@schemathesis.hook  # type: ignore[untyped-decorator]  # its types are not looked at
def filter_case(context: HookContext, case: Case) -> bool:
    """Unknown header fields are ignored (RFC 9110, section 5.1), so bringing one is valid. JSON
    Schema cannot say that two lists must be of the same length."""
    if _MADE_UP in {name.lower() for name in case.headers}:
        return False
    return not isinstance(case.body, dict) or not _differ_in_length(case.body)


def _differ_in_length(body: dict[str, Any]) -> bool:
    for first, second in NAMES:
        ones, others = body.get(first), body.get(second)
        if isinstance(ones, list) and len(ones) > 1:
            return not isinstance(others, list) or len(others) != len(ones)
    return False
