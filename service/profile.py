"""Profiles in the cache folder: how long batches take, by model, device and versions.

One JSON file for each; imports no torch, so that the planner can read what a worker has measured.
Nothing here raises for what is on the disk: a profile that cannot be read is measured again, and
one that cannot be written is measured at each start.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from service.saving import replacing

FORMAT = 2
FOLDER = "profiles"  # in the cache folder
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
    if not cache_dir:
        return None, ""
    path = _path(cache_dir, key)
    try:
        found = _read(path)
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"{path} is of no use: {_line(error)}"
    if found.key != key:
        return None, f"{path} is of no use: it is another's"
    return found.points, ""


def save_profile(cache_dir: str, key: ProfileKey, points: Sequence[Point]) -> str:
    """Whole or not at all. Returns one line that says why it was not saved; empty: it was."""
    if not cache_dir:
        return ""
    path = _path(cache_dir, key)
    content = {"format": FORMAT, "key": asdict(key), "points": [list(point) for point in points]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        return f"the profile is not saved, the next start measures again: {_line(error)}"
    return ""


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
    newest: tuple[float, Profile] | None = None
    for path in Path(cache_dir).expanduser().joinpath(FOLDER).glob(f"{_slug(model)}-*.json"):
        try:
            found, written = _read(path), path.stat().st_mtime
        except (OSError, ValueError):
            continue
        key = found.key
        fits = (
            key.model == model
            and (device == "auto" or key.device.startswith(device.partition(":")[0]))
            and dtype in ("auto", key.dtype)
            and threads in (0, key.threads)
        )
        if fits and (newest is None or written > newest[0]):
            newest = (written, found)
    return newest[1] if newest else None


def _path(cache_dir: str, key: ProfileKey) -> Path:
    digest = hashlib.sha256(json.dumps([FORMAT, asdict(key)], sort_keys=True).encode())
    name = f"{_slug(key.model)}-{digest.hexdigest()[:16]}.json"
    return Path(cache_dir).expanduser() / FOLDER / name


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", model)[-80:].lstrip(".")


def _read(path: Path) -> Profile:
    """Raises OSError, ValueError."""
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    try:
        key = ProfileKey(**content["key"])
        points = [(int(n), int(tokens), float(t)) for n, tokens, t in content["points"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a profile ({_line(error)})") from error
    if not points or not all(_makes_sense(*point) for point in points):
        raise ValueError("points that make no sense")
    return Profile(key, points)


def _makes_sense(size: int, tokens: int, seconds: float) -> bool:
    return size >= 1 and tokens >= size and 0.0 < seconds < math.inf


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
