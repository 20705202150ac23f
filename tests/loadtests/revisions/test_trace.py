"""Claims about what the trace of a request counts."""

import sys
import threading
from pathlib import Path

import pytest

from loadtests.revisions import tracer
from loadtests.revisions.trace import ask, between_folders, passed, table
from loadtests.revisions.tracer import Tracer

OURS = """
def outer(through):
    through(inner)

def inner():
    pass
"""


def call(file: str, caller: str | None = None) -> tuple[str, str, str | None]:
    return "call", file, caller


def back(file: str, caller: str | None = None) -> tuple[str, str, str | None]:
    return "return", file, caller


def test_move_is_a_call_of_another_file_than_the_last_and_crossings_count_returns_too():
    events = [
        call("service/http/a.py"),
        call("service/http/b.py", "service/http/a.py"),
        back("service/http/b.py", "service/http/a.py"),
        call("batcher/c.py", "service/http/a.py"),
        back("batcher/c.py", "service/http/a.py"),
        call("batcher/c.py", "service/http/a.py"),
        back("batcher/c.py", "service/http/a.py"),
        back("service/http/a.py"),
    ]
    one = passed([{"events": events}])
    assert one.files == {"service/http/a.py", "service/http/b.py", "batcher/c.py"}
    assert one.moves == [
        ("service/http/a.py", "service/http/b.py"),
        ("service/http/b.py", "batcher/c.py"),
    ]
    assert (len(one.crossings), between_folders(one.crossings)) == (6, 4)
    assert (sum(one.calls.values()), between_folders(one.moves)) == (4, 1)
    assert "| batcher/c.py | 1 | 2 |" in table(one)


def test_processes_are_added_and_no_move_leads_from_one_to_the_other():
    one = passed([{"events": [call("service/a.py")]}, {"events": [call("batcher/b.py")]}])
    assert (len(one.files), one.moves, sum(one.calls.values())) == (2, [], 2)


def test_file_that_was_called_before_and_holds_the_event_loop_is_not_entered():
    one = passed([{"events": [call("batcher/b.py", "service/runs.py"), back("batcher/b.py")]}])
    assert one.files == {"batcher/b.py"}


def test_caller_is_the_nearest_file_of_ours_and_other_code_is_not_counted(tmp_path: Path):
    made = Tracer(str(tmp_path))
    ours: dict[str, object] = {}
    exec(compile(OURS, str(tmp_path / "batcher" / "ours.py"), "exec"), ours)
    before = sys.getprofile()
    sys.setprofile(made.profile)
    try:
        ours["outer"](lambda function: function())  # type: ignore[operator]  # of the code above
        made.start()
        ours["outer"](lambda function: function())  # type: ignore[operator]  # of the code above
        made.stop()
        ours["outer"](lambda function: function())  # type: ignore[operator]  # of the code above
    finally:
        sys.setprofile(before)
    file = "batcher/ours.py"
    assert made.events == [call(file), call(file, file), back(file, file), back(file)]


def test_tracer_is_turned_on_and_off_over_its_socket(tmp_path: Path, monkeypatch):
    made, path = Tracer(str(tmp_path)), tmp_path / "1"
    listening = threading.Event()
    listen = tracer.socket.socket.listen

    def heard(self: object) -> None:
        listen(self)  # type: ignore[arg-type]  # a socket
        listening.set()

    monkeypatch.setattr(tracer.socket.socket, "listen", heard)
    threading.Thread(target=tracer.serve, args=(made, path), daemon=True).start()
    assert listening.wait(5)
    assert ask(path, "on") == {}
    made.events.append(call("batcher/a.py"))
    assert ask(path, "off") == {"events": [["call", "batcher/a.py", None]]}


@pytest.mark.parametrize("event", ["c_call", "c_return", "exception"])
def test_calls_into_c_are_not_counted(tmp_path: Path, event: str):
    made = Tracer(str(tmp_path))
    made.start()
    made.profile(sys._getframe(), event, None)
    assert made.events == []
