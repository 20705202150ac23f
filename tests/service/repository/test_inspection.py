"""The process that inspects a model, from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.repository import inspection
from service.repository.folder import Wanted
from service.repository.inspection import run  # the real one: other tests have it replaced
from service.repository.json_files import ModelNotSupported


@pytest.mark.parametrize(
    ("code", "timeout", "told"),
    [
        ("import threading; threading.Event().wait()", 0.1, "not finished after 0 s"),
        ("print('one'); print('of no use'); import os; os.abort()", 60.0, "died .*: of no use$"),
    ],
)
def test_a_process_that_hangs_or_dies_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, timeout: float, told: str
) -> None:
    monkeypatch.setattr(inspection, "_CODE", code)
    monkeypatch.setattr(inspection, "_TIMEOUT", timeout)
    with pytest.raises(ModelNotSupported, match=told) as refused:
        run(tmp_path, Wanted(), tmp_path)
    assert "\n" not in str(refused.value)


def test_what_a_killed_start_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".abc-killed", ".other-at-work"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(inspection, "run", lambda *given: None)
    inspection._make(tmp_path, Wanted(), tmp_path / "abc", lambda line: None)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".other-at-work", "abc"]
