"""Hooks of schemathesis: the cases that are no violation whatever the answer. Named in openapi.toml."""

import schemathesis
from schemathesis import Case, HookContext

_MADE_UP = "x-schemathesis-unknown-property"


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Unknown header fields are ignored (RFC 9110, section 5.1), so bringing one is valid."""
    return _MADE_UP not in {name.lower() for name in case.headers}
