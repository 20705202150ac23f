"""Notes in the cache folder of what a start has found out, each under what it holds for.

Nothing here raises for what is on the disk: what cannot be read is found out again, and what cannot
be written is found out at each start. Imports no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.saving import replacing

NOTES = "notes"  # in the cache folder
_FORMAT = 1

Key = Mapping[str, object]
"""What something holds for: plain JSON values."""


def load_note(cache_dir: str, kind: str, key: Key) -> tuple[dict[str, Any] | None, str]:
    """What was noted under exactly this key; else None and, if there is a file that is of no use,
    one line that says why."""
    if not cache_dir:
        return None, ""
    path = _note(cache_dir, kind, key)
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("key") != as_json(key):
            raise ValueError("it is another's")
        value = content.get("value")
        if not isinstance(value, dict):
            raise ValueError("not a note")
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"{path} is of no use: {one_line(error)}"
    return value, ""


def save_note(cache_dir: str, kind: str, key: Key, value: Mapping[str, object]) -> str:
    """Returns one line that says why it was not saved; empty: it was, or nothing is to be."""
    if not cache_dir:
        return ""
    path = _note(cache_dir, kind, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"key": as_json(key), "value": value}, indent=1) + "\n")
    except OSError as error:
        return f"{path} is not saved, the next start finds it out again: {one_line(error)}"
    return ""


@contextlib.contextmanager
def by_one(cache_dir: str, kind: str, key: Key) -> Iterator[None]:
    """One process after the other finds out what is noted under this key. Without a cache folder,
    or where it cannot be written, all at once."""
    with contextlib.ExitStack() as held:
        if cache_dir:
            path = _note(cache_dir, kind, key).with_suffix(".lock")
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = held.enter_context(path.open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)  # given back as it is closed, or the process ends
        yield


def digest(key: Key) -> str:
    written = json.dumps([_FORMAT, as_json(key)], sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def as_json(key: Key) -> Any:
    """As it comes back from a file: tuples are lists there."""
    return json.loads(json.dumps(dict(key)))


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _note(cache_dir: str, kind: str, key: Key) -> Path:
    return Path(cache_dir).expanduser() / NOTES / f"{kind}-{digest(key)}.json"
