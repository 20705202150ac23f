"""Inspection: the reference library loads a model's folder once, in a process of its own, and says
what its files mean. That is kept for the next start.

The library takes 6 to 12 s to import and 170 MB more than transformers, so neither a frontend nor a
worker loads it, unless nothing else can run the model.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from batcher.workers.lifetime import describe_exit
from service.cache.notes import digest, locked
from service.repository.folder import Wanted, read_folder
from service.repository.json_files import ModelNotSupported
from service.repository.spec import EncoderSpec, from_json

FORMAT = 3  # changes with what the heads make of hidden states, too: the answers are kept as such
SPEC, TOKENIZER, ANSWERS, REFUSAL = "spec.json", "tokenizer.json", "answers.npz", "refusal.txt"
_LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch", "numpy")
_READ_WHOLE = 64 << 20  # bytes; larger files are known by their size and time
# Seconds that it may take, and bytes of the model's files for each second more: disks are slow.
_TIMEOUT, _PER_SECOND = 600.0, 10 << 20
# First of all it is bound to its parent: what it imports takes seconds.
_CODE = "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given['path']; "
_CODE += "from batcher.workers.lifetime import die_with_parent; die_with_parent(); "
_CODE += "from service.models.reference.inspect import main; sys.exit(main(given))"

Say = Callable[[str], None]  # one line for the log


def inspect(folder: Path, wanted: Wanted, cache_dir: str, say: Say) -> EncoderSpec:
    """What the model's files mean. `cache_dir`: where that is kept; empty: until the machine is
    restarted. Raises ModelNotSupported."""
    read_folder(folder, wanted)  # what it refuses needs no process
    try:
        name = digest(_key(folder, wanted))
    except OSError as error:
        raise ModelNotSupported(f"{folder}: cannot be read: {error}") from error
    for root in (cache_dir, ""):
        try:
            place = _root(root) / name
            if (spec := _read(place)) is not None:
                return spec
            with locked(place.with_suffix(".json"), "reading the model", say):
                if (spec := _read(place)) is None:
                    _make(folder, wanted, place, say)
                    spec = _read(place)
            if spec is not None:
                return spec
        except OSError as error:  # the cache folder cannot be written
            if not root:
                raise ModelNotSupported(
                    f"{folder}: the result of its inspection cannot be saved: {error}"
                ) from error
    raise ModelNotSupported(f"{folder}: the saved result of its inspection cannot be read")


def _make(folder: Path, wanted: Wanted, place: Path, say: Say) -> None:
    say(f"inspecting {folder} with the reference library (once for each model) …")
    # Left by a start that was killed: we have the lock.
    for left in place.parent.glob(f".{place.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    try:
        run(folder, wanted, made)
        refusal = made / REFUSAL
        if refusal.is_file():
            raise ModelNotSupported(refusal.read_text())
        shutil.rmtree(place, ignore_errors=True)  # what could not be read
        made.replace(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def run(folder: Path, wanted: Wanted, made: Path) -> None:
    """Leaves SPEC, TOKENIZER and ANSWERS in `made`, or a REFUSAL. Raises ModelNotSupported where
    the process has died or takes too long."""
    given = {"path": sys.path, "folder": str(folder), "made": str(made), **asdict(wanted)}
    timeout = _TIMEOUT + sum(_sizes(folder)) / _PER_SECOND
    try:
        told = subprocess.run(
            [sys.executable, "-P", "-c", _CODE, json.dumps(given)],
            stdin=subprocess.DEVNULL,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:  # it was killed
        raise ModelNotSupported(
            f"{folder}: the process that reads it has not finished after {timeout:.0f} s"
            f"{_last_line(error.output)}"
        ) from error
    if told.returncode:
        ended = describe_exit(told.returncode)
        raise ModelNotSupported(
            f"{folder}: the process that reads it died ({ended}){_last_line(told.stdout)}"
        )


def _last_line(output: bytes | None) -> str:
    """Of what it wrote, with a colon before; empty: nothing."""
    lines = (output or b"").decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def _sizes(folder: Path) -> Iterator[int]:
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            yield file.stat().st_size


def _environment() -> dict[str, str]:
    # Threads of OpenMP spin where they wait for each other. With both cores of a machine busy that
    # was 17 s of CPU time for the default model, and is 2.3 s with threads that sleep.
    passive = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    return passive | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def _key(folder: Path, wanted: Wanted) -> dict[str, object]:
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "format": FORMAT,
        "folder": str(folder.resolve()),
        "wanted": asdict(wanted),
        "versions": versions,
        "files": _content(folder),
    }


def _content(folder: Path) -> str:
    """Changes with any file that the reference may read."""
    found = hashlib.blake2b(digest_size=16)
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        status = file.stat()
        found.update(f"{file.relative_to(folder)} {status.st_size} ".encode())
        if status.st_size > _READ_WHOLE:
            found.update(str(status.st_mtime_ns).encode())
        else:
            found.update(hashlib.blake2b(file.read_bytes()).digest())
    return found.hexdigest()


def _read(place: Path) -> EncoderSpec | None:
    """None: it is not there, or of no use."""
    try:
        spec = from_json((place / SPEC).read_text())
    except (OSError, ValueError, TypeError, KeyError):
        return None
    tokenizer, answers = (each and place / each for each in (spec.tokenizer, spec.answers))
    if not all(file is None or _is_whole(file) for file in (tokenizer, answers)):
        return None
    return replace(spec, tokenizer=tokenizer, answers=answers)


def _is_whole(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0  # after a power cut a file may be empty


def _root(cache_dir: str) -> Path:
    """Raises OSError."""
    if cache_dir:
        root = Path(cache_dir).expanduser() / "inspections"
        root.mkdir(parents=True, exist_ok=True)
        return root
    root = Path(tempfile.gettempdir()) / f"batcher-inspections-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.getuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        raise PermissionError(f"{root} belongs to, or is open to, somebody else")
    return root
