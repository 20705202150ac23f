"""Valid requests, spoilt a little: bytes flipped, inserted, deleted, repeated, spliced, cut off;
fields with other values; bodies compressed, before that or after.

Seeded: the same number gives the same mutants on every machine.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.fuzz.seeds import seeds

LONGEST = 8 << 10  # bytes of a mutant: repeating what was repeated grows without bound
CODED = 0.15  # of the bodies are compressed
_CODINGS = ("gzip", "deflate")
USUAL = 0.4  # of a field's other values are of another body that has the field

# Bytes that mean something to a parser of JSON or of HTTP.
_TOKENS = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\\ud800", b"\\u0000",
    b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"null", b"true", b"NaN", b"-Infinity",
    b"1e999", b"-0", b"1.5", b"9" * 40, b"[" * 300, b'{"a":' * 100, b"\r\n", b"\n", b" ", b"\t",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1",
)  # fmt: skip


# What a field may hold that it should not, or just may. JSON can write all of them.
_ODD_VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 8, 9, 30521, 30522, 2**31, 2**63, 1.0, 1.5, -0.0, 1e308,
    "", " ", "x" * 3000, "\u0000", "\ud800", "\u202e", [], {}, [[]], [{}], [None], [1, "a"],
    ["a", 1], [1.0], [-1], [[1], []], [[[1]]], ["a"] * 40, ["a"] * 300, {"a": 1}, "base64", "Left",
)  # fmt: skip
_ODD = tuple(map(json.dumps, _ODD_VALUES))  # as JSON: what is put into a body may be spoilt further


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Those in it, itself first."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _objects(part)


def _usual() -> dict[str, list[str]]:
    """What fields hold in the seeds, as JSON, by their names."""
    found: dict[str, list[str]] = {"another": ["1"]}
    for _, _, body in seeds():
        for each in _objects(body):
            for name, value in each.items():
                found.setdefault(name, []).append(json.dumps(value))
    return found


_USUAL = _usual()
_KNOWN = sorted(_USUAL)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`task` is what the model is for that it is sent to; `body` is compressed as `coding` says,
    or claims to be."""

    task: str
    path: str
    body: bytes
    coding: str = ""  # Content-Encoding

    @property
    def headers(self) -> dict[str, str]:
        coded = {"Content-Encoding": self.coding} if self.coding else {}
        return {"Content-Type": "application/json", **coded}

    def request(self, *lines: str) -> bytes:
        """Whole, for a socket; with more lines in its head."""
        named = [f"{name}: {value}" for name, value in self.headers.items()]
        length = f"Content-Length: {len(self.body)}"
        head = [f"POST {self.path} HTTP/1.1", "Host: localhost", *named, length, *lines, "", ""]
        return "\r\n".join(head).encode("latin-1") + self.body


def bodies(count: int, seed: int = 1, tasks: Sequence[str] = ()) -> Iterator[Mutant]:
    """Two of three are one to four mutations of bytes away from a valid one; the third is JSON, but
    with other values, and so gets behind the parser. Of models for these tasks; none: for any."""
    rng = random.Random(seed)
    valid = _valid(rng, tasks)
    for _ in range(count):
        mutant = rng.choice(valid)
        if rng.random() < 1 / 3:
            body = _revalue(rng, mutant.body)
        else:
            body = mutate(rng, mutant.body, rng.choice(valid).body)
        coding = rng.choice(_CODINGS) if rng.random() < CODED else ""
        if coding:
            body = compress(body, coding)
            if rng.random() < 1 / 2:
                body = mutate(rng, body, mutant.body)
        yield Mutant(mutant.task, mutant.path, body, coding)


def requests(
    count: int, seed: int = 1, tasks: Sequence[str] = (), *, closing: bool = False
) -> Iterator[bytes]:
    """Whole requests: mutations may be in the head, the body, or both. `closing`: unless that is
    spoilt, they ask for the connection's end after the answer."""
    rng = random.Random(seed)
    lines = ("X-Request-Id: mine", "Priority: u=1, i", *["Connection: close"] * closing)
    valid = [mutant.request(*lines) for mutant in _valid(rng, tasks)]
    for _ in range(count):
        yield mutate(rng, rng.choice(valid), rng.choice(valid))


def _valid(rng: random.Random, tasks: Sequence[str]) -> list[Mutant]:
    return [
        Mutant(task, path, written(body, ascii_only=rng.random() < 0.5))
        for task, path, body in seeds(*tasks)
    ]


def written(body: object, *, ascii_only: bool = True) -> bytes:
    if isinstance(body, bytes):
        return body
    return json.dumps(body, ensure_ascii=ascii_only).encode()


def compress(data: bytes, coding: str) -> bytes:
    return gzip.compress(data, 6, mtime=0) if coding == "gzip" else zlib.compress(data)


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """One to four mutations of `data`; a splice takes its second half from `other`."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_MUTATIONS)(rng, data, other)[:LONGEST]
    return data


def _revalue(rng: random.Random, body: bytes) -> bytes:
    try:
        fields = json.loads(body)
    except ValueError:  # an image
        return mutate(rng, body, body)
    for _ in range(rng.randint(1, 2)):
        within = rng.choice(list(_objects(fields)))
        name = rng.choice([*within, *within, *within, rng.choice(_KNOWN)])
        if rng.random() < 0.1:
            within.pop(name, None)
        elif rng.random() < USUAL and name in _USUAL:
            within[name] = json.loads(rng.choice(_USUAL[name]))
        else:
            within[name] = json.loads(rng.choice(_ODD))
    return json.dumps(fields).encode()


def _flip(rng: random.Random, data: bytes, _: bytes) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(_TOKENS) + data[at:]


def _overwrite(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at = rng.randint(0, len(data))
    token = rng.choice(_TOKENS)
    return data[:at] + token + data[at + len(token) :]


def _delete(rng: random.Random, data: bytes, _: bytes) -> bytes:
    first, last = _range(rng, data)
    return data[:first] + data[last:]


def _repeat(rng: random.Random, data: bytes, _: bytes) -> bytes:
    first, last = _range(rng, data)
    return data[:last] + data[first:last] * rng.choice((1, 2, 50)) + data[last:]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _cut_off(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


_MUTATIONS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    _flip, _insert, _overwrite, _delete, _repeat, _splice, _cut_off,
)  # fmt: skip


def _range(rng: random.Random, data: bytes) -> tuple[int, int]:
    first = rng.randint(0, len(data))
    return first, min(len(data), first + rng.randint(1, 16))
