"""Claims about what is asked for before a measurement of minutes."""

import sys
from pathlib import Path

import pytest

from loadtests.__main__ import parser


@pytest.mark.parametrize("command", [["tune", "--p95-ms=50"], ["compare"], ["peers"]])
def test_without_matplotlib_nothing_is_measured(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # As if it were not installed.
    args = parser().parse_args([*command, f"--out={tmp_path}"])
    with pytest.raises(RuntimeError, match=r"matplotlib: run pip install -e '\.\[loadtest\]'"):
        args.run(args)
    assert list(tmp_path.iterdir()) == []
