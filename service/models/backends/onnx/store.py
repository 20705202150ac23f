"""ONNX graphs in the cache folder: made once for a model and its versions, checked when read.

A graph has a seal beside it, written after it: the key that it holds for and the hash of its bytes.
A graph without the right seal is made again. One process makes it, others wait for that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from service.cache.notes import Key, as_json, atomic_write, digest, locked, one_line
from service.models.backends import Say

FOLDER = "onnx"  # in the cache folder


@contextlib.contextmanager
def graph(cache_dir: str, key: Key, make: Callable[[Path], None], say: Say) -> Iterator[Path]:
    """The file, until the block ends. `make` writes it and may raise: then nothing is kept.

    Without a cache folder, or where it cannot be written, it is a temporary one.
    """
    with contextlib.ExitStack() as held:
        path = _cached(Path(cache_dir), key, make, say, held) if cache_dir else None
        if path is None:
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="batcher-onnx-"))
            path = Path(folder, "model.onnx")
            make(path)
        yield path


def _cached(
    cache: Path, key: Key, make: Callable[[Path], None], say: Say, held: contextlib.ExitStack
) -> Path | None:
    """None: the folder has none and cannot take one."""
    path = cache.expanduser() / FOLDER / f"{digest(key)}.onnx"
    seal = path.with_suffix(".json")
    try:
        held.enter_context(locked(path, "onnx", say))
        return _saved(path, seal, key, make, say)
    except OSError as error:
        if _flaw(path, seal, key) is None:  # read-only, as a folder that came with an image
            return path
        say(
            f"the ONNX graph cannot be saved, so the next start exports it again: {one_line(error)}"
        )
        return None


def _saved(path: Path, seal: Path, key: Key, make: Callable[[Path], None], say: Say) -> Path:
    why = _flaw(path, seal, key)
    if why is None:
        return path
    if why:
        say(f"{path} cannot be used: {why}; exporting it again …")
    seal.unlink(missing_ok=True)  # until the new one is whole there is none
    with atomic_write(path) as temporary:
        make(temporary)
    with atomic_write(seal) as temporary:
        content = {"key": as_json(key), "blake2b": _hash(path)}
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _flaw(path: Path, seal: Path, key: Key) -> str | None:
    """None: it is good. Empty: there is none. Else why it is of no use."""
    try:
        if not path.exists():
            return ""
        content = json.loads(seal.read_bytes())
        if not isinstance(content, dict) or content.get("key") != as_json(key):
            return "it is another's"
        return None if content.get("blake2b") == _hash(path) else "its bytes have changed"
    except (OSError, ValueError) as error:
        return one_line(error)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
