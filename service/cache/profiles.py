"""Profiles: how long batches take, by model, device and versions; each a note, see notes.py.

Imports no torch, so that the planner can read what a worker has measured.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from service.cache.notes import load_note, notes_of, save_note, single_writer, unusable

FORMAT = 3
_CONTENT = ("config.json", "modules.json", "*.safetensors", "*.bin", "*/config.json")

Point = tuple[int, int, float]  # size, padded tokens, seconds


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a profile holds for. `content` stands for the model's files, see content_of()."""

    model: str
    content: str
    device: str
    backend: str
    dtype: str
    threads: int
    versions: str
    task: str = "embed"  # what its head makes of the hidden states
    padding_free: bool = False  # its batches take what their useful tokens take


@dataclass(frozen=True, slots=True)
class Profile:
    key: ProfileKey
    points: list[Point]


def content_of(folder: Path) -> str:
    """Changes with the text of the config and the size or time of any file of weights."""
    digest = hashlib.sha256()
    for path in _files(folder):
        status = path.stat()
        digest.update(f"{path.relative_to(folder)} {status.st_size} ".encode())
        is_text = path.suffix == ".json"
        digest.update(path.read_bytes() if is_text else str(status.st_mtime_ns).encode())
    return digest.hexdigest()[:16]


def weights_of(folder: Path) -> str:
    """Changes with any byte of the config and the weights, for what answers depend on: sizes and
    times can be those of another model. Reads them whole, a gigabyte a second or so."""
    return _weights_of(folder, content_of(folder))


@functools.cache  # content_of: for as long as nothing seems to have changed
def _weights_of(folder: Path, _: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in _files(folder):
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "blake2b").hexdigest()
        digest.update(f"{path.relative_to(folder)} {whole} ".encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted({path for pattern in _CONTENT for path in folder.glob(pattern)})


def load_profile(cache_dir: str, key: ProfileKey) -> tuple[list[Point] | None, str]:
    """The points saved under exactly this key; else None and, if there is a file that is of no use,
    one line that says why."""
    found, why = load_note(cache_dir, _kind(key.model), _noted(key))
    if found is None:
        return None, why
    try:
        return _points(found), ""
    except ValueError as error:
        return None, unusable("the profile", error)


def save_profile(cache_dir: str, key: ProfileKey, points: Sequence[Point]) -> str:
    """Whole or not at all. Returns one line that says why it was not saved; empty: it was."""
    value = {"points": [list(point) for point in points]}
    return save_note(cache_dir, _kind(key.model), _noted(key), value)


def measuring(
    cache_dir: str, key: ProfileKey, say: Callable[[str], None]
) -> AbstractContextManager[None]:
    """While one process measures, the others wait for what it saves."""
    return single_writer(cache_dir, _kind(key.model), _noted(key), say)


def saved_or_measured(
    cache_dir: str,
    key: ProfileKey,
    measure: Callable[[], list[Point]],
    say: Callable[[str], None],
) -> tuple[list[Point], str]:
    """The points, and whether they are of the cache or measured just now, and then saved."""
    with measuring(cache_dir, key, say):
        saved, why = load_profile(cache_dir, key)
        if saved is not None:
            return saved, "cache"
        if why:
            say(f"{why}; measuring again …")
        points = measure()
        if points and (why := save_profile(cache_dir, key, points)):
            say(why)
        return points, "measured"


def latest_profile(
    cache_dir: str,
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
) -> Profile | None:
    """The newest profile of a model, by the name it was served under; None: there is none.

    `device`: auto, or what its name begins with (cpu, cuda); `dtype` auto and `threads` 0: any.
    Looks at neither the model's files nor the versions installed. Files that cannot be read are
    passed over.
    """
    if not cache_dir:
        return None
    for noted, value in notes_of(cache_dir, _kind(model)):
        try:
            key = ProfileKey(**{name: each for name, each in noted.items() if name != "format"})
            points = _points(value)
        except (TypeError, ValueError):
            continue
        if (
            noted.get("format") == FORMAT
            and key.model == model
            and (device == "auto" or key.device.startswith(device.partition(":")[0]))
            and dtype in ("auto", key.dtype)
            and threads in (0, key.threads)
        ):
            return Profile(key, points)
    return None


def _kind(model: str) -> str:
    return "profile-" + re.sub(r"[^A-Za-z0-9.]+", "_", model)[-80:]


def _noted(key: ProfileKey) -> dict[str, object]:
    return {"format": FORMAT, **asdict(key)}


def _points(value: Mapping[str, object]) -> list[Point]:
    """Raises ValueError."""
    try:
        points = [(int(n), int(tokens), float(t)) for n, tokens, t in value["points"]]  # type: ignore[attr-defined]  # raises, as it says
    except (KeyError, TypeError) as error:
        raise ValueError("not a profile") from error
    if not points or not all(_makes_sense(*point) for point in points):
        raise ValueError("points that make no sense")
    return points


def _makes_sense(size: int, tokens: int, seconds: float) -> bool:
    return size >= 1 and tokens >= size and 0.0 < seconds < math.inf
