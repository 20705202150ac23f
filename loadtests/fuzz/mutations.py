"""Valid requests, spoilt a little: bytes flipped, inserted, deleted, repeated, spliced, cut off.

Seeded: the same number gives the same mutants on every machine.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LONGEST = 8 << 10  # bytes of a mutant: repeating what was repeated grows without bound
MODEL = "simulated"

# By route; what a client may say, in every shape that the routes know.
VALID: dict[str, tuple[object, ...]] = {
    "/embed": (
        {"inputs": "the harbour lights"},
        {"inputs": ["a", "b ☃ 𝄞 é", ""], "truncate": True, "normalize": False},
        {"inputs": [101, 7592, 102]},
        {"inputs": [[1, 2, 3], "mixed", [4]], "dimensions": 4, "truncation_direction": "Left"},
        {"inputs": 'escapes " \\ \n \u0000 \u202e', "prompt_name": None, "dimensions": None},
    ),
    "/v1/embeddings": (
        {"model": MODEL, "input": "the harbour lights"},
        {"model": MODEL, "input": ["a", "b"], "encoding_format": "base64", "user": "u"},
        {"model": MODEL, "input": [5, 6, 7], "dimensions": 3, "encoding_format": "float"},
        {"model": MODEL, "input": [[1], [2, 3]], "truncate": False},
        {"input": "a", "encoding_format": None, "truncate": "END", "input_type": "query"},
    ),
    "/rerank": (
        {"query": "the harbour", "texts": ["a", "b ☃ 𝄞 é", ""], "return_text": True},
        {"query": "", "texts": ["a"], "raw_scores": True, "truncate": None, "priority": 5},
    ),
    "/similarity": (
        {"inputs": {"source_sentence": "a", "sentences": ["b", ""]}},
        {"inputs": {"source_sentence": "é", "sentences": ["b"]}, "parameters": {"truncate": True}},
    ),
    "/": (
        {"inputs": ["a", "b"], "normalize": True, "encoding_format": "float"},
        {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {}},
        {"query": "a", "texts": ["b"]},
    ),
}

# Bytes that mean something to a parser of JSON or of HTTP.
_TOKENS = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\\ud800", b"\\u0000",
    b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"null", b"true", b"NaN", b"-Infinity",
    b"1e999", b"-0", b"1.5", b"9" * 40, b"[" * 300, b'{"a":' * 100, b"\r\n", b"\n", b" ", b"\t",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1",
)  # fmt: skip


# What a field may hold that it should not, or just may. JSON can write all of them.
_ODD: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 8, 9, 30521, 30522, 2**31, 2**63, 1.0, 1.5, -0.0, 1e308,
    "", " ", "x" * 3000, "\u0000", "\ud800", "\u202e", [], {}, [[]], [{}], [None], [1, "a"],
    ["a", 1], [1.0], [-1], [[1], []], [[[1]]], ["a"] * 40, ["a"] * 300, {"a": 1}, "base64", "Left",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    path: str
    body: bytes


def bodies(count: int, seed: int = 1) -> Iterator[Mutant]:
    """POST bodies: two of three are one to four mutations of bytes away from a valid one; the third
    is JSON, but with other values, and so gets behind the parser."""
    rng = random.Random(seed)
    seeds = [
        (path, json.dumps(body, ensure_ascii=rng.random() < 0.5).encode())
        for path, valid in VALID.items()
        for body in valid
    ]
    for _ in range(count):
        path, body = rng.choice(seeds)
        if rng.random() < 1 / 3:
            yield Mutant(path, _revalue(rng, body))
        else:
            yield Mutant(path, mutate(rng, body, rng.choice(seeds)[1]))


def requests(count: int, seed: int = 1) -> Iterator[bytes]:
    """Whole requests: mutations may be in the head, the body, or both."""
    rng = random.Random(seed)
    seeds = [
        _request(path, json.dumps(body).encode()) for path, valid in VALID.items() for body in valid
    ]
    for _ in range(count):
        yield mutate(rng, rng.choice(seeds), rng.choice(seeds))


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """One to four mutations of `data`; a splice takes its second half from `other`."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_MUTATIONS)(rng, data, other)[:LONGEST]
    return data


def _revalue(rng: random.Random, body: bytes) -> bytes:
    fields = json.loads(body)
    for _ in range(rng.randint(1, 2)):
        name = rng.choice([*fields, "dimensions", "truncate", "another"])
        if rng.random() < 0.1:
            fields.pop(name, None)
        else:
            fields[name] = rng.choice(_ODD)
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


def _request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-Request-Id: mine\r\nPriority: u=1, i\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
