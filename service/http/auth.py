"""Who may call: API keys."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from service.errors import Problem

Headers = Mapping[bytes, bytes]


def check_key(headers: Headers, keys: Sequence[bytes]) -> str:
    """Which key it is, as a name that does not give it away. Azure's clients send `api-key` in
    place of Authorization, which wins over it. Raises Problem 401.

    Takes the same time for every wrong key, and for every right one.
    """
    scheme, _, given = headers.get(
        b"authorization", b"bearer " + headers.get(b"api-key", b"")
    ).partition(b" ")
    given = given.strip()
    matches = [hmac.compare_digest(given, key) for key in keys]  # all of them, always
    if scheme.lower() != b"bearer" or not any(matches):
        raise Problem(
            401,
            "an API key is required: send the header 'Authorization: Bearer <key>'",
            param="Authorization",
            headers={"www-authenticate": "Bearer"},
        )
    return f"key {matches.index(True)}"
