"""Input that no client should send, and no service should suffer from."""

import itertools
import tempfile
import time
from pathlib import Path

from loadtests.chaos.bench import Bench
from loadtests.chaos.hostile import (
    answers_to,
    check_attacks,
    check_statuses,
    run_async,
    status_and_json,
)
from loadtests.chaos.scenario import Allowed, NotRunnable, Scenario
from loadtests.drivers.history import only, tell
from loadtests.drivers.raw_http import exchange
from loadtests.fuzz import attacks, schema
from loadtests.fuzz.attacks import head, pieces
from loadtests.fuzz.run_mutations import Sent, send
from loadtests.reports.finding import Finding, observed

FUZZ_SECONDS = 15
MUTANTS = 4000
LIMIT = attacks.LIMIT
WRONG: tuple[object, ...] = ("x", [], {}, 0, -1)


def _wrong_json(bench: Bench) -> Finding:
    cases: list[tuple[str, object, tuple[int, ...]]] = [
        ("no body", b"", (400,)),
        ("cut off", b'{"inputs":"a', (400,)),
        ("a list", [], (400,)),
        ("a number", 1, (400,)),
        ("two documents", b'{"inputs":"a"}{"inputs":"b"}', (400,)),
        ("single quotes", b"{'inputs':'a'}", (400,)),
        ("no field", {}, (422,)),
        ("another field", {"inputs": "a", "extra": 1}, (200,)),
        ("a field twice", b'{"inputs":"a","inputs":"b"}', (200,)),
        ("a comment", b'{"inputs":"a"/**/}', (400,)),
        ("a comma too many", b'{"inputs":"a",}', (400,)),
        ("a byte order mark", b'\xef\xbb\xbf{"inputs":"a"}', (200,)),
    ]
    odd: tuple[object, ...] = (None, True, 1, 1.5, {}, [None], [{}], [[[1]]], [True], [["a"]])
    cases += [(f"inputs {value!r}", {"inputs": value}, (400, 422)) for value in odd]
    cases += [
        (f"{name} {value!r}", {"inputs": "a", name: value}, (400, 422))
        for name in ("truncate", "normalize", "dimensions")
        for value in WRONG
    ]
    return check_statuses(bench, cases)


def _numbers(bench: Bench) -> Finding:
    return check_attacks(bench, lambda one: one.name.startswith(("number:", "token id:")))


def _deep(bench: Bench) -> Finding:
    began = time.monotonic()
    found = check_attacks(bench, lambda one: one.name.startswith("250,000"))
    quick = time.monotonic() - began < 3.0  # of nine requests
    return observed(found.ok and quick, found.what)


def _texts(bench: Bench) -> Finding:
    return check_attacks(bench, lambda one: one.name.startswith("text:"))


def _empty(bench: Bench) -> Finding:
    alone, blank, batch = answers_to(
        bench, [{"inputs": ""}, {"inputs": " \t\n"}, {"inputs": ["", "a"]}]
    )
    same = alone[0] == 200 and batch[0] == 200 and alone[1][0] == batch[1][0]
    found = check_statuses(
        bench,
        [
            ("no inputs", {"inputs": []}, (400, 422)),
            ("no ids", {"inputs": [[]]}, (400, 422)),
            ("no ids beside a text", {"inputs": ["a", []]}, (400, 422)),
        ],
    )
    return observed(
        same and blank[0] == 200 and found.ok,
        f"an empty text {alone[0]}, the same in a batch: {same}; blanks {blank[0]}; {found.what}",
    )


def _long(bench: Bench) -> Finding:
    text = "word " * 9000
    return check_statuses(
        bench,
        [
            ("cut", {"inputs": text}, (200,)),
            ("cut, said so", {"inputs": text, "truncate": True}, (200,)),
            ("refused", {"inputs": text, "truncate": False}, (422,)),
            ("refused in a list", {"inputs": ["a", text], "truncate": False}, (422,)),
            ("ids, refused", {"inputs": [1] * 9000, "truncate": False}, (422,)),
            ("ids, cut", {"inputs": [1] * 9000}, (200,)),
        ],
    )


def _ids(bench: Bench) -> Finding:
    found = check_statuses(
        bench,
        [
            (f"id {value}", {"inputs": ids}, (400, 422))
            for value in (-1, 10**6, 2**31, 2**63, 2**64, 1.5, True)
            for ids in ([value], [1, value], [[1], [value]])
        ],
    )
    pids = bench.worker_pids()
    good = bench.post()
    return observed(
        found.ok and good.kind == "ok" and bench.worker_pids() == pids,
        f"{found.what}; the same worker then: {good.outcome}",
    )


def _many(bench: Bench) -> Finding:
    return check_statuses(
        bench,
        [
            ("256", {"inputs": ["a"] * 256}, (200, 429)),
            ("2049", {"inputs": ["a"] * 2049}, (413, 422)),
            ("100,000", {"inputs": ["a"] * 100_000}, (413, 422)),
            ("100,000 lists", {"inputs": [[1]] * 100_000}, (413, 422)),
            ("500,000 ids", {"inputs": [1] * 500_000, "truncate": False}, (413, 422)),
        ],
    )


def _shapes(bench: Bench) -> Finding:
    values = (-1, 0, 2**31, 2**60, 2**63, 2**64, -(2**63), 1e300, 0.5)
    return check_statuses(
        bench, [(f"{v}", {"inputs": "a", "dimensions": v}, (400, 422)) for v in values]
    )


def _lengths(bench: Bench) -> Finding:
    async def at_the_limit() -> list[int]:
        found = []
        for size in (LIMIT - 1, LIMIT, LIMIT + 1):
            body = b'{"inputs":"a"}'.ljust(size)
            reply = await exchange(bench.target, pieces(attacks.post(body)))
            found.append(status_and_json(reply)[0])
        return found

    sizes = run_async(bench, at_the_limit)
    lying = check_attacks(bench, lambda one: "Content-Length" in one.name or "declares" in one.name)
    return observed(
        sizes == [200, 200, 413] and lying.ok,
        f"limit - 1, limit, limit + 1: {sizes}; lies about the length: {lying.what}",
    )


def _bombs(bench: Bench) -> Finding:
    return check_attacks(bench, lambda one: one.family == "bombs")


def _chunks(bench: Bench) -> Finding:
    return check_attacks(
        bench, lambda one: "chunks" in one.name or "extensions" in one.name, repeats=10
    )


def _multipart(bench: Bench) -> Finding:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    forms = {
        "without boundary": ("multipart/form-data", part),
        "of 10,000 parts": ("multipart/form-data; boundary=x", part * 10_000 + b"--x--"),
        "with a header of 1 MB": ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"a" * 10**6),
        "with a preamble of 1 MB": ("multipart/mixed; boundary=x", b"." * 10**6 + part),
    }

    async def ask() -> dict[str, int]:
        found = {}
        for name, (kind, body) in forms.items():
            lines = (f"Content-Type: {kind}", f"Content-Length: {len(body)}")
            reply = await exchange(bench.target, pieces(head(*lines) + body))
            found[name] = status_and_json(reply)[0]
        return found

    began = time.monotonic()
    statuses = run_async(bench, ask)
    took = time.monotonic() - began
    return observed(set(statuses.values()) == {415} and took < 4, f"{statuses} in {took:.2f} s")


def _one_of_32(bench: Bench, drill: str) -> Finding:
    texts = [bench.text() for _ in range(31)]
    texts.insert(16, bench.text(f"fault:{drill}"))
    with bench.load(5000, texts=iter(texts), timeout=5.0) as load:
        time.sleep(0.5)
    bad = [call for call in load.calls if call.text.startswith("fault:")]
    good = [call for call in load.calls if not call.text.startswith("fault:")]
    bench.injections.acknowledge(drill, sum(call.status == 500 for call in bad))
    return observed(
        only(bad, 422, 500) and only(good, 200) and len(good) == 31,
        f"the bad one: {tell(bad)}; the other 31: {tell(good)}",
    )


def _culprit(bench: Bench) -> Finding:
    return _one_of_32(bench, "raise")


def _not_a_number(bench: Bench) -> Finding:
    return _one_of_32(bench, "nan")


def _model_names(bench: Bench) -> Finding:
    names = ["nobody/nothing", "../../etc/passwd", "..%2f..%2fetc", "/etc/passwd", "x" * 10_000]
    names += ["\0", "", "file:///etc/passwd", "a\r\nb", "☃"]
    bodies = [{"model": name, "input": "a"} for name in names]
    answers = answers_to(bench, bodies, "/v1/embeddings")
    paths = check_attacks(
        bench, lambda one: one.name in ("a path out of the tree", "an encoded one")
    )
    # A service with one model takes any name; what it says of itself is its own.
    right = all(status == 200 and said is not None for status, said in answers)
    models = {said.get("model") for _, said in answers if isinstance(said, dict)}
    return observed(
        right and len(models) == 1 and paths.ok,
        f"{len(names)} names: {sorted({status for status, _ in answers})}; in the path:"
        f" {paths.what}",
    )


def _heads(bench: Bench) -> Finding:
    def is_of_the_head(one: attacks.Attack) -> bool:
        return one.family == "heads" and not one.name.startswith("timeout")

    return check_attacks(bench, is_of_the_head)


def _smuggling(bench: Bench) -> Finding:
    return check_attacks(bench, lambda one: one.family == "smuggling")


def _header_numbers(bench: Bench) -> Finding:
    values = ("-1", "0", "1e9", "NaN", "", "2147483648", str(2**64), "9" * 400, "1.5", "soon")

    async def ask() -> tuple[list[int], list[int]]:
        async def status(line: str) -> int:
            data = attacks.post(b'{"inputs":"a"}', line)
            return status_and_json(await exchange(bench.target, [data]))[0]

        return (
            [await status(f"X-Request-Timeout-Ms: {value}") for value in values],
            [await status(f"Priority: u={value}") for value in values],
        )

    timeouts, priorities = run_async(bench, ask)
    return observed(
        set(timeouts) == {400} and set(priorities) == {200},
        f"{len(values)} timeouts: {sorted(set(timeouts))};"
        f" as urgencies, which are then ignored: {sorted(set(priorities))}",
    )


def _schema(bench: Bench) -> Finding:
    bench.raw = True
    with tempfile.TemporaryDirectory() as folder:
        told, _ = schema.fuzz(bench.url, Path(folder), FUZZ_SECONDS, seed=1)
    bench.injections.acknowledge("schemathesis", told["test_cases"]["generated"])
    titles = [f"{one['code']} {one['title']}" for one in told["failures"]]
    return observed(
        not titles and not told["errors"],
        f"{told['test_cases']['generated']} requests in {FUZZ_SECONDS} s (check schema makes"
        f" thousands): {titles or 'no violation'}",
    )


def _mutants(bench: Bench) -> Finding:
    sent = Sent(is_simulated=not bench.real)
    run_async(bench, lambda: send(bench.target, MUTANTS, 3, sent))
    counts = sent.bodies + sent.whole
    bench.injections.acknowledge("mutant", counts.total() + sent.closed)
    told = ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))
    return observed(
        not sent.violations,
        f"{MUTANTS} requests (check mutations makes a million): {told}, {sent.closed} closed;"
        f" {list(itertools.islice(sent.violations, 1)) or 'none wrong'}",
    )


def _is_drill(text: str) -> bool:
    return text.startswith("fault:")


SCENARIOS: tuple[Scenario | NotRunnable, ...] = (
    Scenario(
        "B1",
        "JSON that is broken, of wrong types, without fields, with others",
        "400 or 422",
        _wrong_json,
        real=True,
    ),
    Scenario("B2", "NaN, Infinity, 1e999, 5,000 digits, 2^64", "400 or 422", _numbers, real=True),
    Scenario(
        "B3",
        "JSON nested 250,000 deep",
        "400, each in well under a second",
        _deep,
        real=True,
        timed=True,
    ),
    Scenario(
        "B4",
        "invalid UTF-8, lone surrogates, NUL, right-to-left, 500,000 emoji",
        "400, 422, or 200",
        _texts,
        allowed=Allowed(growth_mb=64),  # 500,000 emoji take 4 bytes each, several times over
    ),
    Scenario(
        "B5",
        "empty texts, blanks, no inputs at all",
        "200 alone and in a batch alike; 400 or 422 for none",
        _empty,
    ),
    Scenario(
        "B6",
        "a text, and ids, over the model's limit",
        "cut, or 422 where the caller wants none cut",
        _long,
        real=True,
    ),
    Scenario(
        "B7",
        "token ids that are negative or beyond the vocabulary",
        "400 or 422; the worker lives",
        _ids,
        real=True,
    ),
    Scenario(
        "B8", "256, 257 and 100,000 inputs, 500,000 ids in one request", "422 over the limit", _many
    ),
    Scenario("B9", "dimensions of 2^60, below 1, of no integer", "400", _shapes, real=True),
    Scenario(
        "B10",
        "bodies at the limit and one byte over; lengths that lie",
        "200, 200, 413; 400 or closed",
        _lengths,
        allowed=Allowed(growth_mb=80),  # bodies of 32 MiB, and what they are parsed into
    ),
    Scenario(
        "B11",
        "gzip, br and zstd bombs, cut off, unknown",
        "413 before more than the limit is unpacked, 400, 415",
        _bombs,
        allowed=Allowed(growth_mb=80),  # as B10: what is unpacked, up to 32 MiB
        real=True,
    ),
    Scenario(
        "B12",
        "a million one-byte chunks, chunks without end, 10 of each",
        "400 or 413, no memory kept",
        _chunks,
    ),
    Scenario(
        "B13",
        "multipart without boundary, of 10,000 parts, with huge headers",
        "415 at once",
        _multipart,
        real=True,
        timed=True,
    ),
    NotRunnable(
        "B14",
        "images that bomb, are cut off, or are something else",
        "no route takes images: embedding models of texts are served",
    ),
    Scenario(
        "B15",
        "one input on which the model fails, among 31 others",
        "500 to it, 200 to the others",
        _culprit,
        allowed=Allowed(failing=_is_drill),
        injects={"raise": 1},
    ),
    Scenario(
        "B16",
        "one input whose answer is not a number, among 31 others",
        "500 to it, 200 to the others",
        _not_a_number,
        allowed=Allowed(failing=_is_drill),
        injects={"nan": 1},
    ),
    Scenario(
        "B17",
        "models that are unknown, paths, 10 kB of name",
        "200 under the model's own name; 404 in a path",
        _model_names,
        real=True,
    ),
    Scenario(
        "B18",
        "headers of 70 KiB and 10 MB, 10,000 of them, NUL, HTTP/1.9 and 0.9, TLS",
        "400, 414, 431",
        _heads,
        real=True,
    ),
    Scenario(
        "B19",
        "two lengths, chunks and a length, bad chunks, folds, bare line ends",
        "400 and closed; never two answers",
        _smuggling,
        real=True,
    ),
    Scenario(
        "B20",
        "timeouts and urgencies that are no such numbers",
        "400; urgencies are ignored",
        _header_numbers,
        real=True,
    ),
    Scenario(
        "B21",
        "schemathesis, all phases, for some seconds",
        "no violation",
        _schema,
        allowed=Allowed(growth_mb=48),
        injects={"schemathesis": 100},
    ),
    Scenario(
        "B22",
        "thousands of requests with a few bytes changed",
        "200, 4xx or closed",
        _mutants,
        real=True,
        injects={"mutant": MUTANTS // 4},
    ),
)
