"""multipart/form-data as browsers and libraries write it, and as nobody should."""

from __future__ import annotations

import pytest

from service.errors import Problem
from service.http.multipart import Part, parts_of

TYPE = 'multipart/form-data; boundary="b-1"'
NAMED = b'Content-Disposition: form-data; name="a"'


def form(*parts: bytes, end: bytes = b"--b-1--\r\n") -> bytes:
    return b"".join(b"--b-1\r\n" + part + b"\r\n" for part in parts) + end


def test_fields_and_files_in_their_order() -> None:
    file = (
        b'content-disposition: form-data; name="f"; filename="x%22 \\"y.png"\r\nContent-Type: a/b'
    )
    body = form(NAMED + b"\r\n\r\n\xc3\xa4 1", file + b"\r\n\r\n\r\n--b-\r\n\0")
    assert parts_of(b"ignored\r\n" + body, TYPE) == [
        Part("a", b"\xc3\xa4 1", None, None),
        Part("f", b"\r\n--b-\r\n\0", "a/b", 'x" "y.png'),
    ]
    assert parts_of(form(NAMED + b"\r\n\r\n"), TYPE) == [Part("a", b"", None, None)]
    assert parts_of(form(), TYPE) == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (b"", TYPE, 400, "last boundary is missing"),
        (form(NAMED + b"\r\n\r\na", end=b""), TYPE, 400, "last boundary is missing"),
        (form(NAMED), TYPE, 400, "do not end"),
        (form(b"X: " + b"a" * 9000 + b"\r\n\r\na"), TYPE, 400, "do not end within 8192 bytes"),
        (form(b"no header\r\n\r\na"), TYPE, 400, "a line that is no header"),
        (form(b"\r\na"), TYPE, 400, "no Content-Disposition"),
        (form(b"Content-Disposition: form-data\r\n\r\na"), TYPE, 400, "has no name"),
        (form(NAMED + b"\r\nContent-Transfer-Encoding: base64\r\n\r\na"), TYPE, 400, "base64"),
        (b"--b-1x\r\n" + NAMED + b"\r\n\r\n\r\n--b-1--", TYPE, 400, "a line of its own"),
        (form(*[NAMED + b"\r\n\r\na"] * 1001), TYPE, 413, "more than 1000 parts"),
        (form(), "multipart/form-data; boundary=" + "b" * 71, 400, "no boundary"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_is_no_form_says_why(body: bytes, kind: str, status: int, says: str) -> None:
    with pytest.raises(Problem) as caught:
        parts_of(body, kind)
    assert caught.value.status == status
    assert says in caught.value.message
