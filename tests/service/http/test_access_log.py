from __future__ import annotations

import asyncio
import logging

import pytest

from service.errors import Problem
from service.http.access_log import LINES, WINDOW, AccessLog, HandledRequest, LineLimit, Mode
from tests.fakes import FakeClock, run_async
from tests.service.conftest import FakeClient
from tests.service.loopback import post, run, serving


def handled(status: int, path: str = "/embed") -> HandledRequest:
    return HandledRequest("POST", path, status, "a_code", 0.0021, "10.0.0.1", "id-1")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "service.access"]


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_window_has_its_lines_and_counts_the_rest_by_kind() -> None:
    limit = LineLimit(2, window=1.0)
    assert [limit.admits(400, 5.0) for _ in range(4)] == [True, True, False, False]
    assert not limit.admits(503, 5.999)
    assert limit.take_omitted() == {400: 2, 503: 1}
    assert limit.take_omitted() == {}
    assert limit.admits(400, limit.window_ends)  # 6.0: the next window


@pytest.mark.parametrize(
    ("mode", "statuses"), [("off", []), ("errors", [422, 500]), ("all", [200, 422, 500])]
)
def test_a_mode_logs_what_it_says(
    caplog: pytest.LogCaptureFixture, mode: Mode, statuses: list[int]
) -> None:
    log = AccessLog(mode, FakeClock().now)
    for status in (200, 422, 500):
        if status != 200 or log.logs_success:  # as the middleware asks
            log.add(handled(status))
    found = [each.__dict__["fields"]["status"] for each in caplog.records]
    assert found == statuses


def test_a_line_names_the_request_and_its_level_says_whose_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = AccessLog("errors", FakeClock().now)
    log.add(handled(422, "/a\nb\x1b[2J"))
    log.add(handled(500))
    log.add(handled(0))
    log.add_refusal(Problem(400, "no HTTP", code="malformed_http"), "id-2", "10.0.0.9")
    assert lines(caplog) == [
        "POST /a?b?[2J 422 a_code in 2.1 ms (client 10.0.0.1, request id-1)",
        "POST /embed 500 a_code in 2.1 ms (client 10.0.0.1, request id-1)",
        "POST /embed client disconnected in 2.1 ms (client 10.0.0.1, request id-1)",
        "- - 400 malformed_http in 0.0 ms (client 10.0.0.9, request id-2)",
    ]
    assert [each.levelname for each in caplog.records] == ["INFO", "WARNING", "INFO", "INFO"]


def test_a_level_above_info_leaves_out_client_errors_and_does_not_count_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    log = AccessLog("errors", FakeClock().now)
    for _ in range(2 * LINES):
        log.add(handled(400))
    log.add(handled(500))
    assert len(lines(caplog)) == 1


def test_several_frontends_share_the_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        for log in [AccessLog("errors", FakeClock().now, processes=2) for _ in range(2)]:
            for _ in range(LINES):
                log.add(handled(400))
            log.close()

    run_async(test())
    assert sum(" 400 " in line for line in lines(caplog)) == LINES


def test_what_is_left_out_is_reported_when_the_window_ends_with_nothing_else_to_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock(1000.0)

    async def test() -> None:
        log = AccessLog("errors", clock.now)
        for _ in range(LINES):
            log.add(handled(422))
        clock.advance(WINDOW - 0.001)  # the loop's own timer waits for the rest
        for status in (422, 422, 429):
            log.add(handled(status))
        async with asyncio.timeout(30):
            while len(lines(caplog)) == LINES:  # noqa: ASYNC110  # the timer is the log's own
                await asyncio.sleep(0)
        log.close()  # with nothing left to report

    run_async(test())
    assert lines(caplog)[LINES:] == [
        "3 more requests failed within the last second and are not logged one by one: 2 with status"
        " 422, 1 with status 429"
    ]


def test_what_is_left_out_at_the_end_is_reported_by_closing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        log = AccessLog("errors", FakeClock().now)
        for _ in range(LINES + 5):
            log.add(handled(422))
        log.close()

    run_async(test())
    assert lines(caplog)[-1].startswith("5 more requests failed")


def test_150_client_errors_over_http_leave_lines_and_a_count_and_successes_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        clock = FakeClock(1000.0)  # all in one window
        async with serving(clock=clock) as site:
            client = await site.connect()
            for _ in range(150):
                client.send(post(b'{"inputs": []}'))
                assert (await client.reply()).status == 400
            assert (await site.ask(post(b'{"inputs": "a"}'))).status == 200
            assert (await site.ask(b"no HTTP\r\n\r\n")).status == 400
            site.front.access_log.close()

    run(test())
    assert sum("POST /embed 400 " in line for line in lines(caplog)) == LINES
    counted = [int(line.split()[0]) for line in lines(caplog) if " more requests failed" in line]
    assert sum(counted) == 150 - LINES + 1  # in one report, or two on a slow machine
    assert not any(" 200 " in line for line in lines(caplog))


def test_a_request_that_succeeds_is_logged_with_all(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(access_log="all") as site:
            assert (await site.ask(post(b'{"inputs": "a"}', b"X-Request-Id: mine"))).status == 200

    run(test())
    [line] = lines(caplog)
    assert line.startswith("POST /embed 200 in ")
    assert line.endswith("(client 127.0.0.1, request mine)")


def test_the_probes_of_a_service_that_loads_are_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(FakeClient(up=False)) as site:
            site.front.served = None
            reply = await site.ask(b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n")
            assert reply.status == 503
            assert (await site.ask(post(b'{"inputs": "a"}'))).status == 503

    run(test())
    [line] = lines(caplog)
    assert line.startswith("POST /embed 503 not_ready in ")


@pytest.mark.parametrize("request_line", [b"POST /embed", b"GET /health/live"])
def test_a_request_that_is_refused_in_mid_body_is_one_line_and_one_count(
    caplog: pytest.LogCaptureFixture, request_line: bytes
) -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            head = b"%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % request_line
            client.send(head + b"no size\r\n")
            reply = await client.reply()
            assert (reply.status, reply.json()["code"]) == (400, "malformed_http")
            await client.rest()
            await site.until(lambda: bool(lines(caplog)))
            path = request_line.split()[1].decode()
            assert site.front.tally.counts() == {(path, "invalid"): 1}
            [line] = lines(caplog)
            assert line.startswith(f"{request_line.decode()} 400 malformed_http in ")
            assert line.endswith(f"request {reply.headers['x-request-id']})")

    run(test())
