"""Hooks of schemathesis, named in openapi.toml: cases that no answer violates."""

import schemathesis
from schemathesis import Case, HookContext

_MADE_UP = "x-schemathesis-unknown-property"


@schemathesis.hook  # type: ignore[untyped-decorator]  # its types are not looked at
def filter_case(context: HookContext, case: Case) -> bool:
    """Unknown header fields are ignored (RFC 9110, section 5.1), so bringing one is valid."""
    return _MADE_UP not in {name.lower() for name in case.headers}
