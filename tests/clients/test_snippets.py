"""Each block of docs/clients.md runs as it is, but for the address."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.clients import SECONDS, quiet_environment
from tests.clients.environments import ENVIRONMENTS, ROOT
from tests.clients.servers import Servers
from tests.docs.blocks import Block, blocks, kind

ADDRESS = "127.0.0.1:8000"  # as the page writes it, with or without http://
SNIPPETS = [block for block in blocks(ROOT / "docs/clients.md") if kind(block) == "client"]


@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_a_block_of_the_page_of_clients_runs(
    block: Block, servers: Servers, tmp_path: Path
) -> None:
    environment = ENVIRONMENTS[block.words[1]]
    if reason := environment.missing():
        pytest.skip(reason)
    is_node = environment.name == "node"
    folder = environment.folder if is_node else tmp_path  # Node finds packages beside the file
    script = folder / ("snippet.mjs" if is_node else "snippet.py")
    address = servers["embed"].url.removeprefix("http://")
    script.write_text(block.text.replace(ADDRESS, address), encoding="utf-8")
    done = subprocess.run(
        [environment.command[0], str(script)],
        cwd=tmp_path,
        env=quiet_environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
