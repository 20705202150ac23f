from __future__ import annotations

import json
import logging
import sys

from service.observability.logs import JsonFormatter


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "service", "levelname": "WARNING", "msg": message})
    made.args = arguments
    made.created = 0.25
    made.__dict__.update(more)
    return made


def test_json_has_one_object_a_line_with_the_process_and_the_fields() -> None:
    text = JsonFormatter("frontend-0").format(record("a\n%s", "b\udcff", fields={"status": 422}))
    assert "\n" not in text
    assert json.loads(text) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "process": "frontend-0",
        "logger": "service",
        "message": "a\nb\udcff",
        "status": 422,
    }


def test_json_has_the_traceback_of_an_exception() -> None:
    try:
        raise ValueError("asked for")
    except ValueError:
        text = JsonFormatter().format(record("failed", exc_info=sys.exc_info()))
    entry = json.loads(text)
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ValueError: asked for")
    assert "process" not in entry
