from __future__ import annotations

import subprocess
import sys

from batcher.workers.output import ErrorLines

PROGRAM = """
import sys, threading, traceback
print("loading", file=sys.stderr)
try:
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise KeyError("x") from error
except KeyError:
    traceback.print_exc()
print("  indented, and no error", file=sys.stderr)
threading.Thread(target=lambda: [].pop(), name="own").start()
"""


def test_the_tracebacks_of_python_are_errors_and_what_is_around_them_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = ErrorLines()
    others = [line for line in lines if not errors.is_error(line)]
    assert others == ["loading", "  indented, and no error"]
    assert sum(line.startswith(("KeyError", "IndexError", "ZeroDivision")) for line in lines) == 3


def test_one_that_is_only_quoted_ends_where_the_indent_does() -> None:
    errors = ErrorLines()
    given = ["Traceback (most recent call last):", '  File "x"', "ValueError: a", "ready"]
    assert [errors.is_error(line) for line in given] == [True, True, True, False]


def test_what_follows_a_group_of_exceptions_is_no_error() -> None:
    errors = ErrorLines()
    given = [
        "  + Exception Group Traceback (most recent call last):",
        "  | ExceptionGroup: two (1 sub-exception)",
        "  +-+---------------- 1 ----------------",
        "    | ValueError: a",
        "    +------------------------------------",
        "ready",
    ]
    assert [errors.is_error(line) for line in given] == [True] * 5 + [False]
