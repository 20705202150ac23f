"""The log on stderr: its level, and its format, text or JSON."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class LogOptions:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


def start_logging(options: LogOptions, process: str = "") -> None:
    """`process`: the name of this one, if the service has several."""
    handler = logging.StreamHandler(sys.stderr)
    if options.format == "json":
        handler.setFormatter(JsonFormatter(process))
    else:
        prefix = f" {process}:" if process else ""
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s %(levelname)-7s{prefix} %(name)s: %(message)s")
        )
    logging.basicConfig(level=options.level.upper(), handlers=[handler])
    # uvicorn's own start and stop are not news.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))


def is_json() -> bool:
    """Whether this process logs JSON: then nothing else is printed between its lines."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.root.handlers)


class JsonFormatter(logging.Formatter):
    """One object a line: the message, and what `extra={"fields": {…}}` gives beside it."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, object] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
