"""The fenced blocks of a page, and what the words behind the fence say of each.

text                 an example of output, or a drawing: not run
sh                   run by bash, in the page's own temporary folder
sh dry               checked line by line but not run: too slow, or needs another machine
sh server            starts the server that the blocks after it talk to
python               run
python FILE.py       saved in that folder under this name, for the blocks after it
LANGUAGE dry         a configuration: not run
LANGUAGE client NAME run by make test-clients, in the environment of that name
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "results/README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines without comments, those that end in a backslash joined with the next."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, *words = match[1].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, language, tuple(words), match[2]))
    return found


def kind(block: Block) -> str:
    """`example`, `output`, `dry`, `server`, `file`, `client` or `run`. Raises ValueError for other
    words."""
    match block.language, block.words:
        case ("text", ()):
            return "example"
        case ("text", ("output",)):
            return "output"
        case ("sh", ("server",)):
            return "server"
        case ("sh" | "python", ()):
            return "run"
        case ("python", (name,)) if name.endswith(".py"):
            return "file"
        case ("python" | "js", ("client", _)):
            return "client"
        case ("sh" | "toml" | "yaml", ("dry",)):
            return "dry"
    raise ValueError(f"{block}: what is to be done with {block.language!r} {block.words}?")
