"""Requests made to hurt, by name: each as the bytes to send and the answers that are right.

Shared by `check attacks` (each a hundred times, memory watched) and by the chaos scenarios.
"""

import functools
import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

CLOSED = 0  # Among the answers: the connection may be closed without one.
LIMIT = 32 << 20  # BATCHER_MAX_BODY_BYTES
DEEP = 250_000
MILLION = 1_000_000
PIECE = 60_000  # bytes or so of a body sent in pieces

Chunks = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Attack:
    """One connection's worth. Its first answer must be among `answers`, and be the last but where
    the bytes are a second request by any reading."""

    family: str
    name: str
    chunks: Chunks
    answers: frozenset[int]
    most: int = 1  # answers


def head(*lines: str, path: str = "/embed", line: str = "") -> bytes:
    first = line or f"POST {path} HTTP/1.1"
    return "\r\n".join([first, "Host: here", *lines, "", ""]).encode("latin-1")


def post(body: bytes, *lines: str, path: str = "/embed") -> bytes:
    kind = "Content-Type: application/json"
    return head(kind, f"Content-Length: {len(body)}", *lines, path=path) + body


def everything() -> list[Attack]:
    return [*bodies(), *lengths(), *bombs(), *smuggling(), *heads(), *dialects()]


def named(name: str) -> Attack:
    return next(attack for attack in everything() if attack.name == name)


def bodies() -> Iterator[Attack]:
    """B2, B3, B4, B9: JSON that is too deep, too large a number, or no text."""
    deep = b'{"inputs":' + b"[" * DEEP + b"]" * DEEP + b"}"
    yield _body("250,000 brackets deep", deep, 400)
    yield _body("250,000 brackets, never closed", b"[" * DEEP, 400)
    yield _body("250,000 objects deep", b'{"a":' * DEEP, 400)
    for name, number in NUMBERS.items():
        yield _body(f"number: {name}", b'{"inputs":"a","dimensions":%s}' % number, 400, 422)
        yield _body(f"token id: {name}", b'{"inputs":[%s]}' % number, 400, 422)
    for name, text in TEXTS.items():
        yield _body(f"text: {name}", b'{"inputs":"%s"}' % text, 400, 422)
    yield _body(
        "text: NUL, right-to-left, zero width", b'{"inputs":"\\u0000\xe2\x80\xae\xe2\x80\x8b"}', 200
    )
    yield _body("text: 500,000 emoji", b'{"inputs":"' + "😀".encode() * 500_000 + b'"}', 200, 422)
    yield _body("empty", b"", 400)
    yield _body(
        "100,000 times the same field", b"{" + b'"inputs":"a",' * 100_000 + b'"inputs":"b"}', 200
    )
    yield _body("100,000 inputs", b'{"inputs":[' + b'"a",' * 99_999 + b'"a"]}', 422)
    yield _body("100,000 unknown fields", _many_fields(), 200)


NUMBERS = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "1e999": b"1e999",
    "5,000 digits": b"9" * 5000,
    "2^64": b"18446744073709551616",
    "a million digits": b"1" * MILLION,
    "exponent of 100,000 digits": b"1e" + b"9" * 100_000,
    "-1": b"-1",
}
TEXTS = {
    "invalid UTF-8": b"\xff\xfe\xc0\xaf",
    "cut off in a character": b"\xf0\x9f\x98",
    "a surrogate as UTF-8": b"\xed\xa0\x80",
    "a lone surrogate": b"\\ud800",
    "surrogates the wrong way round": b"\\udc00\\ud800",
    "a control character": b"\x01",
}


def lengths() -> Iterator[Attack]:
    """B10, B12: bodies that are not as long as they say, or come a byte at a time."""
    good = b'{"inputs":"a"}'
    yield _whole("lengths", "limit + 1", lambda: pieces(post(b" " * (LIMIT + 1))), 413)
    yield _whole("lengths", "declares 1 TB", lambda: [head(f"Content-Length: {10**12}")], 413)
    for name, value in LENGTHS.items():
        yield _whole(
            "lengths", f"Content-Length {name}", _const(head(f"Content-Length: {value}"), good), 400
        )
    short = head("Content-Length: 5") + good
    yield Attack("lengths", "Content-Length too small", _const(short), frozenset({400}), most=2)
    long = head("Content-Length: 100") + good
    yield _whole("lengths", "Content-Length too large, then gone", _const(long), 400, CLOSED)
    two = head("Content-Length: 14", "Content-Length: 15") + good
    yield _whole("lengths", "two Content-Lengths", _const(two), 400)
    chunked = "Transfer-Encoding: chunked"
    yield _whole(
        "lengths", "a million one-byte chunks", lambda: chunks_of_one(head(chunked)), 400, 413
    )
    yield _whole("lengths", "chunks without end", lambda: endless(head(chunked)), 413)
    ext = b"1;" + b"x" * 50_000 + b"\r\na\r\n"
    yield _whole(
        "lengths", "chunk extensions of megabytes", lambda: [head(chunked)] + [ext] * 60, 400, 413
    )


LENGTHS = {
    "negative": "-1",
    "signed": "+14",
    "of hex": "0x0e",
    "of 5,000 digits": "9" * 5000,
    "beyond 64 bits": "18446744073709551630",
    "a list": "14, 15",
    "empty": "",
    "of words": "many",
}


def bombs() -> Iterator[Attack]:
    """B11: kilobytes that would unpack to more than a body may have. Unpacking stops there."""
    packed = zeros()
    rle = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\x00\x10\x00" * 8000 + b"\x03\x00\x10\x00"
    for coding, data, status in (
        ("gzip", packed, 413),
        ("deflate", packed[10:], 413),
        ("br", packed, 415),
        ("zstd", rle, 415),
    ):
        bomb = _const(post(data, f"Content-Encoding: {coding}"))
        yield _whole("bombs", f"{coding} bomb", bomb, status)
    cut = post(packed[:1000], "Content-Encoding: gzip")
    yield _whole("bombs", "gzip cut off", _const(cut), 400)
    yield _whole("bombs", "gzip not announced", _const(post(packed)), 400)
    for name, data in (
        ("100,000 empty gzip streams", gzip.compress(b"", mtime=0) * 100_000),
        ("8 million lists", gzip.compress(b'{"inputs":"a","x":[%s1]}' % (b"[]," * (8 << 20)), 1)),
    ):
        yield _whole("bombs", name, _const(post(data, "Content-Encoding: gzip")), 413)
    yield _whole("bombs", "unknown coding", _const(post(b"{}", "Content-Encoding: x")), 415)
    many = "Content-Encoding: " + "gzip, " * 500 + "gzip"
    yield _whole("bombs", "500 codings", _const(post(packed, many)), 415)


@functools.cache
def zeros() -> bytes:
    """100 MiB of them, in gzip."""
    return gzip.compress(bytes(100 << 20), 9)


def smuggling() -> Iterator[Attack]:
    """B19: one request that two servers may read as two, or two as one."""
    inner = b"GET /stats HTTP/1.1\r\nHost: here\r\n\r\n"
    good = b"e\r\n" + b'{"inputs":"a"}' + b"\r\n"
    chunked = "Transfer-Encoding: chunked"

    def one(name: str, data: bytes, *answers: int) -> Attack:
        return _whole("smuggling", name, _const(data), *answers or (400,))

    yield one("CL.TE", head("Content-Length: 6", chunked) + b"0\r\n\r\n" + inner)
    yield one("TE.CL", head(chunked, "Content-Length: 4") + good + b"0\r\n\r\n" + inner)
    for name, line in TRANSFER_ENCODINGS.items():
        yield one(f"TE: {name}", head(line) + good + b"0\r\n\r\n" + inner)
    for name, body in CHUNKS.items():
        yield one(f"chunk: {name}", head(chunked) + body + inner)
    folded = head("X-A: b\r\n folded", "Content-Length: 0") + inner
    yield one("obs-fold", folded)
    yield one("folded Transfer-Encoding", head("Transfer-Encoding:\r\n chunked") + good)
    bare = b"POST /embed HTTP/1.1\nHost: here\nContent-Length: 2\n\n{}" + inner
    yield one("bare LF", bare)
    yield one("bare CR", b"POST /embed HTTP/1.1\rHost: here\rContent-Length: 2\r\r{}" + inner)
    yield one("LF in a header", head("X-A: b\nContent-Length: 40", "Content-Length: 0") + inner)


TRANSFER_ENCODINGS = {
    "twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "twice chunked": "Transfer-Encoding: chunked, chunked",
    "a space before the colon": "Transfer-Encoding : chunked",
    "a tab before the value and junk": "Transfer-Encoding:\tchunkedx",
    "vertical tab": "Transfer-Encoding: \x0bchunked",
    "x": "Transfer-Encoding: x",
    "chunked, then gzip": "Transfer-Encoding: chunked, gzip",
    "quoted": 'Transfer-Encoding: "chunked"',
}
CHUNKS = {
    "size overflow": b"f" * 17 + b"\r\na\r\n0\r\n\r\n",
    "negative size": b"-1\r\na\r\n0\r\n\r\n",
    "0x in the size": b"0x1\r\na\r\n0\r\n\r\n",
    "space in the size": b"1 1\r\na\r\n0\r\n\r\n",
    "empty size": b"\r\na\r\n0\r\n\r\n",
    "no CRLF after the data": b"1\r\nab\r\n0\r\n\r\n",
    "bare LF after the size": b"1\na\r\n0\r\n\r\n",
    "LF in the extension": b"1;a\nb\r\na\r\n0\r\n\r\n",
    "bare CR in the extension": b"1;a\rb\r\na\r\n0\r\n\r\n",
    "NUL in the extension": b"1;\x00\r\na\r\n0\r\n\r\n",
    "terminator without CRLF": b"1\r\na\r\n0\r\nX",
}


def heads() -> Iterator[Attack]:
    """B18, B20: what no head may be."""
    body = b'{"inputs":"a"}'

    def one(name: str, data: bytes, *answers: int) -> Attack:
        return _whole("heads", name, _const(data), *answers)

    yield one("a header of 70 KiB", post(body, "X-A: " + "a" * 70_000), 431)
    yield _whole(
        "heads", "a header of 10 MB", lambda: [head()[:-2], b"X-A: "] + [b"a" * 50_000] * 200, 431
    )
    yield one("10,000 headers", post(body, *(f"X-{n}: a" for n in range(10_000))), 431)
    yield one("a name of 70 KiB", post(body, "X" * 70_000 + ": a"), 431)
    yield one("a URL of 70 KiB", head(line="GET /" + "a" * 70_000 + " HTTP/1.1"), 414, 431)
    yield one("NUL in a header", post(body, "X-A: a\0b"), 400)
    yield one("NUL in a name", post(body, "X\0A: b"), 400)
    yield one("NUL in the path", head(line="GET /embed\0 HTTP/1.1"), 400)
    yield one("no colon", post(body, "X-A"), 400)
    yield one("a space in a name", post(body, "X A: b"), 400)
    yield one("no Host", b"GET /health/live HTTP/1.1\r\n\r\n", 400)
    yield one("two Hosts", post(body, "Host: there"), 400)
    yield one("HTTP/1.9", head(line="GET /health/live HTTP/1.9"), 400)
    yield one("HTTP/9.9", head(line="GET /health/live HTTP/9.9"), 400)
    yield one("HTTP/0.9", b"GET /health/live\r\n", 400, CLOSED)
    yield one("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400)
    yield one("absolute form", head(line="GET http://here/health/live HTTP/1.1"), 200)
    yield one("absolute form of elsewhere", head(line="GET http://there:1/etc HTTP/1.1"), 400, 404)
    yield one("authority form", head(line="CONNECT there:1 HTTP/1.1"), 400, 404, 405)
    yield one("asterisk form", head(line="OPTIONS * HTTP/1.1"), 400, 404, 405)
    yield one("a path out of the tree", head(line="GET /v1/models/../../etc/passwd HTTP/1.1"), 404)
    yield one("an encoded one", head(line="GET /v1/models/..%2f..%2fetc%2fpasswd HTTP/1.1"), 404)
    yield one("a method of 10 kB", head(line="A" * 10_000 + " / HTTP/1.1"), 400)
    yield one(
        "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2, 400, CLOSED
    )
    yield one("binary", bytes(range(256)) * 40, 400, CLOSED)
    for name, value in (("-1", "-1"), ("NaN", "NaN"), ("2^64", str(2**64)), ("1e9", "1e9")):
        line = f"X-Request-Timeout-Ms: {value}"
        yield one(f"timeout {name}", post(body, line), 400)
    yield one("Expect: nonsense", post(body, "Expect: nonsense"), 417)


def dialects() -> Iterator[Attack]:
    """Every route that takes the inputs of an embedder in a form of its own: what is too deep, too
    many, too large, or not what it says it is."""
    for path in INPUTS:
        for name, (value, answers) in _VALUES.items():
            yield _whole("dialects", f"{path}: {name}", _given(path, value), *answers)
        for name, coding, data, status in (
            ("gzip bomb", "gzip", zeros(), 413),
            ("deflate bomb", "deflate", zeros()[10:], 413),
            ("gzip that is none", "gzip", INPUTS[path].replace(b"VALUE", b'["a"]'), 400),
            ("coded twice", "gzip, gzip", zeros(), 415),
        ):
            sent = _const(post(data, f"Content-Encoding: {coding}", path=path))
            yield _whole("dialects", f"{path}: {name}", sent, status)
    yield _whole("dialects", "/vertex: a million inputs", _million, 400, 422)
    chunked = head("Transfer-Encoding: chunked", path="/")
    yield _whole("dialects", "/: chunks without end", lambda: endless(chunked), 413)


def _given(path: str, value: Callable[[], bytes]) -> Chunks:
    return lambda: pieces(post(INPUTS[path].replace(b"VALUE", value()), path=path))


def _million() -> Iterator[bytes]:
    """In a body of 5 MB."""
    instance = b'{"inputs":%s}' % _texts(2048)
    instances = b",".join([instance] * (MILLION // 2048))
    return pieces(post(b'{"instances":[%s]}' % instances, path="/vertex"))


def _texts(count: int) -> bytes:
    return b"[" + b",".join([b'"a"'] * count) + b"]"


@functools.cache
def _fields(count: int) -> bytes:
    return b",".join(b'"%d":1' % number for number in range(count))


# In the place of the inputs, and the answers that are right.
_VALUES: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    "250,000 brackets deep": (lambda: b"[" * DEEP + b"]" * DEEP, (400,)),
    "100,000 inputs": (lambda: _texts(100_000), (400, 422)),
    "2,049 inputs": (lambda: _texts(2049), (400, 422)),
    "a number of 400 digits": (lambda: b"1" * 400, (400, 422)),
    "an input of 2 MB": (lambda: b'["' + b"a " * MILLION + b'"]', (200,)),
    "100,000 unknown fields": (lambda: b'["a"],' + _fields(100_000), (200,)),
}
# VALUE is a list of texts.
INPUTS = {
    "/": b'{"inputs":VALUE}',
    "/invocations": b'{"inputs":VALUE}',
    "/vertex": b'{"instances":[{"inputs":VALUE}]}',
    "/similarity": b'{"inputs":{"source_sentence":"a","sentences":VALUE}}',
    "/rerank": b'{"query":"a","texts":VALUE}',
    "/v1/embeddings": b'{"input":VALUE}',
    "/embeddings": b'{"input":VALUE}',
    "/openai/deployments/simulated/embeddings": b'{"input":VALUE}',
    "/infinity/embeddings": b'{"input":VALUE}',
    "/infinity/rerank": b'{"query":"a","documents":VALUE}',
    "/api/embed": b'{"input":VALUE}',
    "/v2/embed": b'{"texts":VALUE}',
    "/v2/rerank": b'{"query":"a","documents":VALUE}',
    "/score": b'{"text_1":"a","text_2":VALUE}',
    "/pooling": b'{"input":VALUE}',
}


def pieces(data: bytes) -> Iterator[bytes]:
    for first in range(0, len(data), PIECE):
        yield data[first : first + PIECE]


def chunks_of_one(start: bytes, count: int = MILLION) -> Iterator[bytes]:
    yield start
    for _ in range(count // 10_000):
        yield b"1\r\na\r\n" * 10_000
    yield b"0\r\n\r\n"


def endless(start: bytes, most: int = 64 << 20) -> Iterator[bytes]:
    """Not quite without end: every attack of ours has one."""
    yield start
    for _ in range(most // 65_536):
        yield b"10000\r\n" + b" " * 65_536 + b"\r\n"


def _body(name: str, body: bytes, *answers: int) -> Attack:
    return _whole("bodies", name, lambda: pieces(post(body)), *answers)


def _whole(family: str, name: str, chunks: Chunks, *answers: int) -> Attack:
    return Attack(family, name, chunks, frozenset(answers))


def _const(*data: bytes) -> Chunks:
    return lambda: data


def _many_fields() -> bytes:
    return b'{"inputs":"a",' + _fields(100_000) + b"}"
