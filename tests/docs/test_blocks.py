"""Each command and each piece of code in README.md and docs/ does what the page says it does."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.docs import dry
from tests.docs.blocks import PAGES, ROOT, Block, blocks, kind
from tests.service.processes.test_server import DEFAULT_MODEL, Server

ADDRESS = "http://127.0.0.1:8000"  # as the pages write it
TIMEOUT = 60.0  # seconds
BLOCKS = [block for page in PAGES for block in blocks(page)]
# The console command, of this checkout and not of the one that is installed.
CONSOLE = f"#!{sys.executable}\nimport sys\nfrom service.__main__ import main\nsys.exit(main())\n"


class Servers:
    """The servers that pages start: each command once, on a free port."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, ...], Server] = {}

    def address(self, command: str, folder: Path) -> str:
        """Where the server of this command listens. `make serve` and `batcher serve` without a
        model of the page's own are one server, on the simulated accelerator."""
        words = shlex.split(command)
        flags = words[2:] if words[:2] == ["batcher", "serve"] else []
        named = flags.pop(0) if flags and not flags[0].startswith("-") else "simulated"
        key = (named, *flags, str(folder) if ":" in named else "")
        if key not in self._running:
            model = ["--model", DEFAULT_MODEL] if named == "simulated" else []
            self._running[key] = Server("--runner", named, *model, *flags, folder=folder)
        return self._running[key].url

    def close(self) -> None:
        for server in self._running.values():
            assert server.end(signal.SIGTERM) == 0


@pytest.fixture(scope="module", autouse=True)
def _this_checkout_is_run() -> Iterator[None]:
    """From any folder, whichever one is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def servers(_this_checkout_is_run: None) -> Iterator[Servers]:
    started = Servers()
    yield started
    started.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "batcher").write_text(CONSOLE)
    (folder / "batcher").chmod(0o755)
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_it_is(block: Block) -> None:
    assert kind(block)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.words == ("dry",)], ids=str)
def test_commands_that_are_not_run_could_be(block: Block) -> None:
    if block.language == "sh":
        for command in block.commands:
            dry.check(command)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(kind(block) in ("run", "file") for block in blocks(page))],
    ids=lambda page: page.name,
)
def test_the_blocks_of_a_page_run_in_their_order(
    page: Path, tmp_path: Path, servers: Servers, path: str
) -> None:
    address = ""  # a page that starts no server talks to one as it comes
    (tmp_path / ".curlrc").write_text("fail-with-body\n")  # an answer of 400 and up is a failure
    environment = {**os.environ, "PATH": path, "BATCHER_PORT": "0", "CURL_HOME": str(tmp_path)}
    said = ""
    for block in blocks(page):
        match kind(block):
            case "server":
                dry_run = [command for command in block.commands if "make" in command]
                for command in dry_run:
                    dry.check(command)
                address = servers.address(block.commands[-1], tmp_path)
            case "file":
                (tmp_path / block.words[0]).write_text(block.text, encoding="utf-8")
            case "run":
                if not address and ADDRESS in block.text:
                    address = servers.address("batcher serve", tmp_path)
                text = block.text.replace(ADDRESS, address)
                said = run(block, command_of(block, text, tmp_path), tmp_path, environment)
            case "output":
                assert said.strip() == block.text.strip(), str(block)


def command_of(block: Block, text: str, folder: Path) -> Sequence[str]:
    if block.language == "sh":
        return ["bash", "-euo", "pipefail", "-c", text]
    script = folder / f"block{block.line}.py"  # a file, as spawned workers import their main module
    script.write_text(text, encoding="utf-8")
    return [sys.executable, str(script)]


def run(block: Block, command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout
