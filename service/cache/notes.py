"""Notes in the cache folder of what a start has found out, each under what it holds for.

Nothing here raises for what is on the disk: what cannot be read is found out again, and what cannot
be written is found out at each start. Imports no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

NOTES = "notes"  # in the cache folder
_FORMAT = 1

Key = Mapping[str, object]
"""What something holds for: plain JSON values."""

Note = dict[str, Any]


def load_note(cache_dir: str, kind: str, key: Key) -> tuple[Note | None, str]:
    """What was noted under exactly this key; else None and, if there is a file that is of no use,
    one line that says why."""
    if not cache_dir:
        return None, ""
    path = note_path(cache_dir, kind, key)
    try:
        found, value = _read(path)
        if found != as_json(key):
            raise ValueError("it is another's")
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, unusable(path, error)
    return value, ""


def save_note(cache_dir: str, kind: str, key: Key, value: Mapping[str, object]) -> str:
    """Returns one line that says why it was not saved; empty: it was, or nothing is to be."""
    if not cache_dir:
        return ""
    return write(note_path(cache_dir, kind, key), {"key": as_json(key), "value": value})


def notes_of(cache_dir: str, kind: str) -> Iterator[tuple[Note, Note]]:
    """The key and value of each note of a kind, the newest first. Passes over what cannot be read.
    Other kinds that begin alike are among them."""
    aged = []
    for path in Path(cache_dir).expanduser().joinpath(NOTES).glob(f"{kind}-*.json"):
        with contextlib.suppress(OSError, ValueError):
            aged.append((path.stat().st_mtime, _read(path)))
    for _, note in sorted(aged, key=lambda each: each[0], reverse=True):
        yield note


@contextlib.contextmanager
def single_writer(
    cache_dir: str, kind: str, key: Key, say: Callable[[str], None]
) -> Iterator[None]:
    """One process after the other finds out what is noted under this key. All at once where it is
    noted already, without a cache folder, or where that cannot be written."""
    with contextlib.ExitStack() as held:
        if cache_dir and load_note(cache_dir, kind, key)[0] is None:
            with contextlib.suppress(OSError):
                held.enter_context(locked(note_path(cache_dir, kind, key), kind, say))
        yield


@contextlib.contextmanager
def locked(path: Path, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """One process after the other makes that file. Says so if it has to wait. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("wb") as lock:
        try:  # given back as it is closed, or the process ends
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process to finish the same work ({what}) …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(path: Path, content: Mapping[str, object]) -> str:
    """Whole or not at all. Returns one line that says why it was not; empty: it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        return f"{path} cannot be saved, so the next start measures again: {one_line(error)}"
    return ""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A new file beside it, which takes its place once it is whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def note_path(cache_dir: str, kind: str, key: Key) -> Path:
    return Path(cache_dir).expanduser() / NOTES / f"{kind}-{digest(key)}.json"


def digest(key: Key) -> str:
    written = json.dumps([_FORMAT, as_json(key)], sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def as_json(key: Key) -> Any:
    """As it comes back from a file: tuples are lists there."""
    return json.loads(json.dumps(dict(key)))


def unusable(what: object, error: Exception) -> str:
    return f"{what} cannot be used: {one_line(error)}"


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _read(path: Path) -> tuple[Note, Note]:
    """Key and value. Raises OSError, ValueError."""
    match json.loads(path.read_bytes()):
        case {"key": dict(key), "value": dict(value)}:
            return key, value
    raise ValueError("not a note")
