from __future__ import annotations

import asyncio
import gzip
import threading
import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from batcher import Overloaded
from batcher.clock import MonotonicClock
from service.app import create_app
from service.errors import Problem
from service.http import body as bodies
from service.http.body import LARGE, LargeBodies, count_values, parse
from service.http.content_coding import decode
from service.http.exchange import Exchange
from service.http.supervision import SLOWEST, Supervision
from service.state import AppState
from tests.service.conftest import FakeClient, is_openai_error, is_tei_error, make_front
from tests.service.loopback import HeldClient

MESSAGE = dict[str, Any]


async def drive(
    front: AppState, received: Sequence[MESSAGE], headers: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[list[MESSAGE], int]:
    """One POST /embed, message by message: what was sent, and how many messages were taken.

    None in `received` means that nothing more comes, for ever.
    """
    sent: list[MESSAGE] = []
    waiting = list(received)
    taken = 0

    async def receive() -> MESSAGE:
        nonlocal taken
        if not waiting:
            await asyncio.Event().wait()
        taken += 1
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/embed",
        "headers": list(headers),
        "state": {"front": front},
    }
    async with asyncio.timeout(20):
        await create_app(front)(scope, receive, send)
    return sent, taken


def part(body: bytes, more: bool = False) -> MESSAGE:
    return {"type": "http.request", "body": body, "more_body": more}


def status_of(sent: list[MESSAGE]) -> int:
    return int(sent[0]["status"])


@pytest.fixture
def small(engine: FakeClient) -> AppState:
    return make_front(engine, max_body_bytes=20)


def test_a_body_in_pieces_is_put_together(small: AppState) -> None:
    pieces = [part(b'{"inp', True), part(b"", True), part(b'uts":"a"', True), part(b"}")]
    sent, _ = asyncio.run(drive(small, pieces))
    assert status_of(sent) == 200


def test_a_declared_length_over_the_limit_is_refused_unread(small: AppState) -> None:
    sent, taken = asyncio.run(drive(small, [part(b"x" * 21)], [(b"content-length", b"21")]))
    assert (status_of(sent), taken) == (413, 0)


@pytest.mark.parametrize(
    "pieces", [[part(b"x" * 21)], [part(b"x" * 10, True), part(b"x" * 11, True), part(b"x")]]
)
def test_an_undeclared_body_is_counted_and_not_read_further(
    small: AppState, pieces: list[MESSAGE]
) -> None:
    sent, taken = asyncio.run(drive(small, pieces))
    assert status_of(sent) == 413
    assert taken == min(2, len(pieces))


@pytest.mark.parametrize(("size", "status"), [(19, 200), (20, 200), (21, 413)])
def test_the_limit_itself_is_allowed(small: AppState, size: int, status: int) -> None:
    with TestClient(create_app(small)) as http:
        body = b'{"inputs":"a"}'.ljust(size)
        answer = http.post("/embed", content=body)
        assert answer.status_code == status
        assert status == 200 or "20 bytes" in answer.json()["error"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, engine: FakeClient) -> AppState:
    monkeypatch.setattr("service.http.exchange.SLOW_AFTER", 0.01)
    monkeypatch.setattr("service.http.supervision.RECEIPT_TIMEOUT", 0.05)
    return make_front(engine, MonotonicClock())


@pytest.mark.parametrize("pieces", [[], [part(b'{"inputs"', True)]])
def test_a_body_that_does_not_arrive_is_408(impatient: AppState, pieces: list[MESSAGE]) -> None:
    sent, _ = asyncio.run(drive(impatient, pieces))
    assert status_of(sent) == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b'"error_type":"Validation"' in sent[1]["body"]


class Waiting(FakeClient):
    """Never answers. Remembers that it was cancelled."""

    cancelled = False

    async def submit_all(self, *arguments: Any, **options: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def test_a_client_that_leaves_withdraws_its_inputs(impatient: AppState) -> None:
    engine = impatient.client = Waiting()
    gone = {"type": "http.disconnect"}
    sent, _ = asyncio.run(drive(impatient, [part(b'{"inputs":"a"}'), gone]))
    assert engine.cancelled
    assert sent == []
    assert impatient.tally.counts() == {("/embed", "cancelled"): 1}


def test_a_client_that_leaves_in_mid_body_is_no_error(
    front: AppState, caplog: pytest.LogCaptureFixture
) -> None:
    gone = {"type": "http.disconnect"}
    sent, _ = asyncio.run(drive(front, [part(b'{"inp', True), gone]))
    assert sent == []
    assert caplog.records == []


def test_a_slow_request_is_answered_all_the_same(
    impatient: AppState, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    become_slow = Exchange.become_slow

    def watch(exchange: Exchange) -> None:
        become_slow(exchange)
        # Behind all that this may have set going: the receipt of a body ends before it.
        asyncio.get_running_loop().call_later(0.05, gate.set)

    monkeypatch.setattr(Exchange, "become_slow", watch)

    class Slow(FakeClient):
        async def submit_all(self, *arguments: Any, **options: Any) -> Any:
            await gate.wait()
            return await super().submit_all(*arguments, **options)

    impatient.client = Slow()
    sent, taken = asyncio.run(drive(impatient, [part(b'{"inputs":"a"}')]))
    assert (status_of(sent), taken) == (200, 1)


def test_somebody_elses_cancelling_is_passed_on(front: AppState) -> None:
    front.client = Waiting()

    async def cancelled() -> None:
        task = asyncio.ensure_future(drive(front, [part(b'{"inputs":"a"}')]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert front.tally.counts() == {("/embed", "cancelled"): 1}


@pytest.mark.parametrize(
    ("media", "status"),
    [
        (None, 200),
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/x-www-form-urlencoded", 200),  # what curl -d says
        ("text/plain", 200),
        ("multipart/form-data; boundary=x", 415),
        ("image/png", 415),
        ("IMAGE/PNG", 415),
    ],
)
def test_only_what_is_clearly_no_json_is_415(
    http: TestClient, media: str | None, status: int
) -> None:
    headers = {} if media is None else {"content-type": media}
    answer = http.post("/embed", content=b'{"inputs":"a"}', headers=headers)
    assert answer.status_code == status
    assert status == 200 or is_tei_error(answer.json())


JSON = b'{"input":"a","inputs":"a"}'
RAW = zlib.compressobj(wbits=-15)


def gzipped(data: bytes) -> bytes:
    """Without the time: each of the processes that run the tests must give them the same names."""
    return gzip.compress(data, mtime=0)


HALF = gzipped(JSON[:9]) + gzipped(JSON[9:])  # two members: as cat makes of two files


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/"])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzipped(JSON)),
        ("GZIP", HALF),
        ("identity, x-gzip", gzipped(JSON)),
        ("deflate", zlib.compress(JSON)),
        ("deflate", RAW.compress(JSON) + RAW.flush()),
        ("identity", JSON),
        ("", b"\xef\xbb\xbf" + JSON),
        ("gzip", gzipped(b"\xef\xbb\xbf" + JSON)),
        ("gzip", gzipped(JSON.ljust(LARGE + 1))),
    ],
)
def test_a_body_is_read_as_it_is_encoded(
    http: TestClient, path: str, encoding: str, body: bytes
) -> None:
    answer = http.post(path, content=body, headers={"content-encoding": encoding})
    assert answer.status_code == 200, answer.text
    assert answer.json() == http.post(path, content=JSON).json()


BOMB = gzipped(bytes(3 << 20))


@pytest.mark.parametrize(
    ("encoding", "body", "status", "says"),
    [
        ("br", JSON, 415, "'br': not supported"),
        ("gzip, gzip", gzipped(gzipped(JSON)), 415, "compressed once"),
        ("gzip", JSON, 400, "not what Content-Encoding says, gzip"),
        ("deflate", gzipped(JSON), 400, "not what Content-Encoding says, deflate"),
        ("gzip", gzipped(JSON)[:-9], 400, "ends too soon"),
        ("gzip", b"", 400, "ends too soon"),
        ("gzip", gzipped(JSON) + b"more", 400, "not what Content-Encoding says"),
        ("deflate", zlib.compress(JSON) + b"more", 400, "more follows its end"),
        ("gzip", gzipped(b"[1]"), 400, "must be a JSON object"),
        ("gzip", BOMB, 413, "larger than 1048576 bytes when decoded"),
        ("gzip", gzipped(BOMB), 400, "not JSON"),
    ],
)
def test_an_encoding_that_cannot_be_read_is_named(
    encoding: str, body: bytes, status: int, says: str
) -> None:
    front = make_front(FakeClient(), max_body_bytes=1 << 20)
    with TestClient(create_app(front)) as http:
        for path, is_error in (("/embed", is_tei_error), ("/v1/embeddings", is_openai_error)):
            answer = http.post(path, content=body, headers={"content-encoding": encoding})
            assert answer.status_code == status, answer.text
            assert says in answer.text
            assert is_error(answer.json())


def test_many_gzip_streams_cost_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib copies what follows a stream. Given the whole of 32 MiB each time, empty streams of 20
    bytes would take a thread for a quarter of an hour."""
    given: list[int] = []

    class Stream:
        def __init__(self, window: int) -> None:
            self._stream = zlib.decompressobj(window)

        def decompress(self, data: Any, most: int) -> bytes:
            given.append(len(data))
            return self._stream.decompress(data, most)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    fake = SimpleNamespace(decompressobj=Stream, error=zlib.error)
    monkeypatch.setattr("service.http.content_coding.zlib", fake)
    empty = gzipped(b"")
    assert decode(empty * 4095 + gzipped(JSON), "gzip", 1 << 20) == JSON
    assert len(given) == 4096
    assert max(given) <= 64 << 10
    with pytest.raises(Problem, match="more than 4096 gzip streams"):
        decode(empty * 4097, "gzip", 1 << 20)


@pytest.mark.parametrize("step", [1, 7, 64 << 10])
def test_a_stream_may_be_cut_anywhere(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr("service.http.content_coding._SLICE", step)
    monkeypatch.setattr("service.http.content_coding._STEP", step)
    text = bytes(range(256)) * 20
    assert decode(gzipped(text) + gzipped(b"") + gzipped(JSON), "gzip", 6000) == text + JSON
    with pytest.raises(Problem, match="ends too soon"):
        decode(gzipped(text)[:-1], "gzip", 6000)
    with pytest.raises(Problem, match="larger than 5119 bytes"):
        decode(gzipped(text), "gzip", 5119)


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/"])
def test_a_body_of_more_values_than_it_may_have_is_refused_unparsed(
    monkeypatch: pytest.MonkeyPatch, engine: FakeClient, path: str
) -> None:
    monkeypatch.setattr("service.http.body._ALWAYS_ALLOWED", 1000)
    front = make_front(engine, MonotonicClock(), max_body_bytes=1 << 20)
    many = b'{"input":"a","inputs":"a","x":[%s1]}' % (b"[]," * (1 << 17))
    with TestClient(create_app(front)) as http:
        for body, coding in ((many, "identity"), (gzipped(many), "gzip")):
            answer = http.post(path, content=body, headers={"content-encoding": coding})
            assert answer.status_code == 413
            assert "more than 131072 JSON values" in answer.text
            assert "BATCHER_MAX_BODY_BYTES" in answer.text
        few = b'{"input":"a","inputs":"a","x":[%s1]}' % (b"[]," * 65_530)
        assert http.post(path, content=few).status_code in (200, 400)
        # What is in a text is no value.
        text = b'{"input":"a","inputs":"a","x":"%s"}' % (b',[{\\"' * (1 << 17))
        assert http.post(path, content=text).status_code in (200, 400)
    assert front.large_bodies._held.total() == 0


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"a":[1,2,3]}', 4),
        (b'["' + b",[{" * 9 + b'"]', 1),
        (b'["\\",[",",{"]', 2),
        (b'["' + b'\\",' * (1 << 18), 1),  # not ended
        (b'["' + b",\\" * 9, 1),
        (b'["\\\\\\",[","a",["\\\\",{}]]', 6),
    ],
    ids=["numbers", "texts", "escapes", "cut off", "cut off in an escape", "backslashes"],
)
@pytest.mark.parametrize("window", [1, 7, 1 << 20])
def test_values_are_counted_outside_of_texts(
    monkeypatch: pytest.MonkeyPatch, body: bytes, values: int, window: int
) -> None:
    if len(body) > 1000:  # each window of it would be a byte
        window = max(window, 7)
    monkeypatch.setattr("service.http.body._ALWAYS_ALLOWED", values)
    monkeypatch.setattr("service.http.body._WINDOW", window)
    assert count_values(body, 0) == values
    monkeypatch.setattr("service.http.body._ALWAYS_ALLOWED", values - 1)
    with pytest.raises(Problem, match="JSON values"):
        count_values(body, 0)


def test_large_bodies_are_parsed_one_at_a_time_and_the_event_loop_has_its_turn_between() -> None:
    front = make_front(FakeClient(), MonotonicClock())
    parsing = threading.Semaphore()

    def slowly(data: bytes) -> dict[str, Any]:
        assert parsing.acquire(blocking=False), "another one runs"
        for _ in range(20):  # turns, in which another could begin
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loops[0]).result()
        parsing.release()
        return parse(data)

    body = b'{"inputs":"a"}'.ljust(LARGE + 1)

    loops = []

    async def main() -> list[dict[str, Any]]:
        loops.append(asyncio.get_running_loop())
        scope = {"type": "http", "path": "/embed", "headers": []}

        async def one() -> dict[str, Any]:
            async def receive() -> MESSAGE:
                return part(body)

            made = Exchange(scope, receive, receive, front.clock.now(), b"id", front)  # type: ignore[arg-type]  # nothing is sent
            try:
                return await made.json(slowly)
            finally:
                front.large_bodies.give_back(made.held, made.caller)

        return await asyncio.gather(*(one() for _ in range(8)))

    assert asyncio.run(main()) == [{"inputs": "a"}] * 8


def test_what_a_body_becomes_counts_as_held_until_it_is_answered() -> None:
    engine = HeldClient()
    front = make_front(engine, MonotonicClock())
    front.large_bodies = LargeBodies(1 << 21)

    async def main() -> tuple[int, int]:
        text = gzipped(b'{"inputs":"a","more":"%s"}' % (b"a" * (1 << 20)))
        values = b'{"inputs":"a","more":[%s1]}' % (b"1," * (1 << 15))
        headers = [(b"content-encoding", b"gzip")]
        first = asyncio.create_task(drive(front, [part(text)], headers))
        await engine.submitted_one.wait()
        held = front.large_bodies._held.total()
        sent, _ = await drive(front, [part(values)])
        engine.go.set()
        assert status_of((await first)[0]) == 200
        return held, status_of(sent)

    held, status = asyncio.run(main())
    assert held > 1 << 20
    assert status == 429
    assert front.large_bodies._held.total() == 0


def test_a_caller_who_holds_much_leaves_room_for_others() -> None:
    bodies = LargeBodies(900)
    bodies.take(500, "hog")
    bodies.take(300, "hog")
    with pytest.raises(Overloaded):
        bodies.take(50, "hog")
    bodies.take(50, "other")
    bodies.take(50, None)
    with pytest.raises(Overloaded):
        bodies.take(1, "new")
    for size, caller in ((800, "hog"), (50, "other"), (50, None)):
        bodies.give_back(size, caller)
    bodies.take(1000, "new")  # alone
    with pytest.raises(Overloaded):
        bodies.take(1, "other")


def test_small_bodies_do_not_mean_small_answers() -> None:
    """Of several, too."""
    front = make_front(FakeClient(), max_body_bytes=2000)
    for caller in ("a", "b"):
        front.large_bodies.take(100 << 20, caller)


@pytest.mark.parametrize(
    ("rate", "end"),
    [(0.0, 10.0), (0.5, 20.0), (0.9, 100.0), (1.0, None)],
    ids=["none", "half", "nearly", "enough"],
)
def test_a_large_body_has_time_for_as_long_as_it_keeps_coming(
    monkeypatch: pytest.MonkeyPatch, rate: float, end: float | None
) -> None:
    """`rate`: of the slowest that is borne."""
    now = 0.1
    monkeypatch.setattr(Supervision, "seconds", property(lambda _: now))
    request = SimpleNamespace(held=0, task=None)

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        request.held = int(now * rate * SLOWEST)
        if now > 1000:
            raise asyncio.CancelledError

    async def main() -> None:
        supervision = Supervision(request)  # type: ignore[arg-type]  # a fake
        with monkeypatch.context() as patched:
            patched.setattr("service.http.supervision.asyncio.sleep", sleep)
            if end is None:
                with pytest.raises(asyncio.CancelledError):
                    await supervision._limit_receipt()
            else:
                await supervision._limit_receipt()
                assert isinstance(supervision.reason, Problem)
                assert supervision.reason.status == 408
                assert now == pytest.approx(end, rel=1e-3)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 37),
        ([(b"x-envoy-expected-rq-timeout-ms", b"2000")], 9),
        ([(b"x-request-timeout-ms", b"20000")], 20),
    ],
    ids=["ours", "the mesh's", "the caller's"],
)
def test_the_time_that_a_body_takes_to_arrive_is_not_the_engines(
    monkeypatch: pytest.MonkeyPatch,
    engine: FakeClient,
    front: AppState,
    headers: list[tuple[bytes, bytes]],
    seconds: float,
) -> None:
    """Unless the caller wants its answer so soon."""
    monkeypatch.setattr(Supervision, "seconds", property(lambda _: 7.0))
    read_on = bodies.read_on

    async def slowly(*given: Any) -> bytes:
        exchanges[0].become_slow()
        return await read_on(*given)

    exchanges: list[Exchange] = []
    enter = Exchange.enter
    monkeypatch.setattr(
        Exchange, "enter", lambda self, phase: exchanges.append(self) or enter(self, phase)
    )
    monkeypatch.setattr(bodies, "read_on", slowly)
    pieces = [part(b'{"inputs":', True), part(b'"a"}')]
    sent, _ = asyncio.run(drive(front, pieces, headers))
    assert status_of(sent) == 200
    assert engine.last.deadline == pytest.approx(front.clock.now() + seconds)


def test_large_bodies_have_a_bound_together_and_give_back_what_they_hold(
    engine: FakeClient,
) -> None:
    front = make_front(engine, MonotonicClock(), max_body_bytes=1 << 20)
    front.large_bodies = LargeBodies(LARGE)
    pieces = [part(JSON[:9] + b" " * LARGE, True), part(b" " * LARGE, True), part(JSON[9:])]
    sent, taken = asyncio.run(drive(front, pieces))
    assert (status_of(sent), taken) == (429, 2)
    for _ in range(2):  # what was held is free again
        sent, _ = asyncio.run(drive(front, [part(b" " * LARGE, True), part(b" " * 9 + JSON)]))
        assert status_of(sent) == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Basic right", 401),
        ("right", 401),
        ("Bearer right", 200),
        ("bearer right", 200),
    ],
)
def test_with_a_key_the_header_must_bring_it(given: str | None, status: int) -> None:
    with TestClient(create_app(make_front(FakeClient(), api_key="right"))) as http:
        headers = {} if given is None else {"authorization": given}
        answer = http.post("/v1/embeddings", json={"input": "a", "model": "tiny"}, headers=headers)
        assert answer.status_code == status
        if status == 401:
            assert is_openai_error(answer.json())
            assert answer.headers["www-authenticate"] == "Bearer"
            assert http.get("/metrics", headers=headers).status_code == 401
            assert is_tei_error(http.post("/embed", headers=headers).json())


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/docs"])
def test_probes_and_the_docs_page_need_no_key(path: str) -> None:
    with TestClient(create_app(make_front(FakeClient(), api_key="right"))) as http:
        assert http.get(path).status_code == 200


@pytest.mark.parametrize("mine", ["a", "A-Z_0.9:x", "x" * 128])
def test_a_request_id_is_echoed(http: TestClient, mine: str) -> None:
    answer = http.post("/embed", json={"inputs": "a"}, headers={"x-request-id": mine})
    assert answer.headers["x-request-id"] == mine
    assert http.get("/health/live", headers={"x-request-id": mine}).headers["x-request-id"] == mine


@pytest.mark.parametrize("mine", ["", "x" * 129, "a b", "a\tb", "<script>", 'a"b'])
def test_a_request_id_that_could_forge_a_log_line_is_replaced(http: TestClient, mine: str) -> None:
    answer = http.post("/embed", json={"inputs": "a"}, headers={"x-request-id": mine})
    assert answer.headers["x-request-id"] not in ("", mine)


def test_made_request_ids_differ(http: TestClient) -> None:
    ids = {http.get("/health/live").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 30),
        ({"x-request-timeout-ms": "1"}, 0.001),
        ({"x-request-timeout-ms": "3600000"}, 3600),
        ({"x-envoy-expected-rq-timeout-ms": "250"}, 0.25),
        ({"x-envoy-expected-rq-timeout-ms": "60000"}, 30),
        ({"x-envoy-expected-rq-timeout-ms": "9" * 18}, 30),
        ({"x-request-timeout-ms": "500", "x-envoy-expected-rq-timeout-ms": "250"}, 0.5),
        ({"x-request-timeout-ms": "100", "x-envoy-expected-rq-timeout-ms": "250"}, 0.1),
        ({"x-request-timeout-ms": "100", "x-envoy-expected-rq-timeout-ms": "soon"}, 0.1),
    ],
)
def test_the_callers_timeout_is_the_deadline_and_the_meshs_where_there_is_none(
    http: TestClient, engine: FakeClient, front: AppState, headers: dict[str, str], seconds: float
) -> None:
    http.post("/embed", json={"inputs": "a"}, headers=headers)
    assert engine.last.deadline == pytest.approx(front.clock.now() + seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"), [({}, 0.2), ({"x-request-timeout-ms": "5000"}, 5.0)]
)
def test_the_target_is_the_deadline_of_whoever_brings_none(
    engine: FakeClient, headers: dict[str, str], seconds: float
) -> None:
    front = make_front(engine, target_latency_ms=200)
    with TestClient(create_app(front)) as http:
        http.post("/embed", json={"inputs": "a"}, headers=headers)
    assert engine.last.deadline == pytest.approx(front.clock.now() + seconds)


NO_TIMEOUTS = ["0", "-5", "3600001", "1.5", "1e3", "nan", "", "soon", "9" * 400, "²"]


@pytest.mark.parametrize("value", NO_TIMEOUTS)
def test_a_timeout_that_is_none_is_400_and_named(http: TestClient, value: str) -> None:
    name = "X-Request-Timeout-Ms"
    answer = http.post("/embed", json={"inputs": "a"}, headers={name: value.encode("latin-1")})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{name}: ")
    assert len(answer.json()["error"]) < 250


@pytest.mark.parametrize("value", NO_TIMEOUTS)
def test_a_timeout_of_the_mesh_is_never_an_error(
    http: TestClient, engine: FakeClient, front: AppState, value: str
) -> None:
    headers = {"X-Envoy-Expected-Rq-Timeout-Ms": value.encode("latin-1")}
    assert http.post("/embed", json={"inputs": "a"}, headers=headers).status_code == 200
    assert engine.last.deadline == pytest.approx(front.clock.now() + 30)


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        ("u=0", 0),
        ("u=7", 7),
        ("u=1, i", 1),
        ("i, u=5", 5),
        ("u=1;why=x ,\ti=?0", 1),
        ('x="a, u=1", u=6', 6),
        ("x=(a b);c, u=2", 2),
        ("u=1, u=2", 2),
        ("i", 3),
        ("", 3),
        ("x=9", 3),
    ],
)
def test_urgency_becomes_the_priority(
    http: TestClient, engine: FakeClient, value: str, priority: int
) -> None:
    http.post("/embed", json={"inputs": "a"}, headers={"priority": value})
    assert engine.last.priority == priority


@pytest.mark.parametrize(
    "value",
    [
        "u=8", "u=-1", "u=99999999999", "u=1.5", "u=high", 'u="1"', "u=?1", "u", "U=1",
        "u=", "u=1,", "u=1 i", "=1", "u=1;", ",u=1", "u=1\xff", 'u=1, x="', "u=" + "1" * 9000,
    ],
)  # fmt: skip
def test_an_urgency_that_is_none_is_ignored(
    http: TestClient, engine: FakeClient, value: str
) -> None:
    headers = {"priority": value.encode("latin-1")}
    assert http.post("/embed", json={"inputs": "a"}, headers=headers).status_code == 200
    assert engine.last.priority == 3


ROUTES = {"/embed": {"inputs": "a"}, "/v1/embeddings": {"input": "a", "model": "tiny"}}
LISTS = {"/embed": {"inputs": ["a"]}, "/v1/embeddings": {"input": ["a"], "model": "tiny"}}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("bodies", [ROUTES, LISTS], ids=["text", "list"])
@pytest.mark.parametrize(
    ("asked", "header", "priority"),
    [(0, "u=5", 0), (7, "u=1", 7), (4.0, "", 4), (None, "u=5", 5), (None, "", 3)],
)
def test_the_priority_of_the_body_wins_over_the_header(
    http: TestClient,
    engine: FakeClient,
    path: str,
    bodies: dict[str, dict[str, Any]],
    asked: float | None,
    header: str,
    priority: int,
) -> None:
    body = bodies[path] | {"priority": asked}
    assert http.post(path, json=body, headers={"priority": header}).status_code == 200
    assert engine.last.priority == priority


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        (8, "less than or equal to 7"),
        (-1, "greater than or equal to 0"),
        (10**30, "less than or equal to 7"),
        (1.5, "integer"),
        ("1", "integer"),
        (True, "integer"),
    ],
)
def test_a_priority_out_of_range_is_named(
    http: TestClient, engine: FakeClient, path: str, asked: object, rule: str
) -> None:
    answer = http.post(path, json=ROUTES[path] | {"priority": asked})
    assert answer.status_code == (422 if path == "/embed" else 400)
    said = answer.json()["error"] if path == "/embed" else answer.json()["error"]["message"]
    assert said.startswith("priority: ")
    assert rule in said
    assert engine.submitted == []


def test_server_timing_tells_the_phases_in_milliseconds(http: TestClient) -> None:
    answer = http.post("/embed", json={"inputs": "a"})
    assert answer.headers["server-timing"] == (
        "tokenize;dur=0.000, queue;dur=2.000, inference;dur=5.000, total;dur=0.000, "
        'batch;desc="size=12 tokens=480 reason=idle padding=0.38 oldest=3.1 predicted=4.0"'
    )
