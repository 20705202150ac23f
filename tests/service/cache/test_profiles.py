"""Profiles on the disk: kept by what they hold for, and never a reason to fail."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cache.notes import NOTES
from service.cache.profiles import (
    ProfileKey,
    content_of,
    latest_profile,
    load_profile,
    save_profile,
)

KEY = ProfileKey("org/model", "c0ffee", "cpu (Chip)", "torch", "float32", 2, "torch 2.13.0")
POINTS = [(1, 8, 0.002), (8, 256, 0.016)]


def the_file(cache: Path) -> Path:
    (path,) = (cache / NOTES).iterdir()
    return path


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    cache = str(tmp_path / "not" / "there" / "yet")
    assert load_profile(cache, KEY) == (None, "")
    assert save_profile(cache, KEY, POINTS) == ""
    assert load_profile(cache, KEY) == (POINTS, "")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ProfileKey)])
def test_it_holds_for_nothing_else(tmp_path: Path, field: str) -> None:
    save_profile(str(tmp_path), KEY, POINTS)
    other = dataclasses.replace(KEY, **{field: 3 if field == "threads" else "another"})
    assert load_profile(str(tmp_path), other) == (None, "")


def test_nothing_is_saved_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert save_profile("", KEY, POINTS) == ""
    assert load_profile("", KEY) == (None, "")
    assert latest_profile("", KEY.model) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"key": {}}',
        b'{"key": {}, "value": {"points": [[1, 8, 0.1]]}}',
        b'{"key": {"format": 2, "model": "m"}, "value": {"points": [[1, 8, 0.1]]}}',
    ],
)
def test_a_damaged_file_is_told_once_and_replaced(tmp_path: Path, damage: bytes) -> None:
    save_profile(str(tmp_path), KEY, POINTS)
    the_file(tmp_path).write_bytes(damage)
    found, why = load_profile(str(tmp_path), KEY)
    assert found is None
    assert "cannot be used" in why
    assert "\n" not in why
    assert latest_profile(str(tmp_path), KEY.model) is None
    assert save_profile(str(tmp_path), KEY, POINTS) == ""
    assert load_profile(str(tmp_path), KEY) == (POINTS, "")


@pytest.mark.parametrize(
    "points",
    [[], [[1, 8]], [[0, 8, 0.1]], [[1, 8, -0.1]], [[1, 8, 1e999]], [["one", 8, 0.1]], [1], 5, None],
)
def test_points_that_make_no_sense_are_not_loaded(tmp_path: Path, points: object) -> None:
    save_profile(str(tmp_path), KEY, POINTS)
    path = the_file(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"value": {"points": points}}))
    found, why = load_profile(str(tmp_path), KEY)
    assert found is None
    assert "cannot be used" in why


def test_the_file_of_another_key_under_this_name_is_not_loaded(tmp_path: Path) -> None:
    save_profile(str(tmp_path), KEY, POINTS)
    path = the_file(tmp_path)
    content = json.loads(path.read_text())
    content["key"]["versions"] = "1.0"
    path.write_text(json.dumps(content))
    assert load_profile(str(tmp_path), KEY)[0] is None


def test_a_folder_that_cannot_be_written_is_one_line_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    why = save_profile(str(tmp_path / "file"), KEY, POINTS)
    assert "cannot be saved" in why
    assert "\n" not in why
    assert load_profile(str(tmp_path / "file"), KEY)[0] is None


def test_a_write_that_fails_half_way_leaves_the_old_one_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_profile(str(tmp_path), KEY, POINTS)

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert "No space left" in save_profile(str(tmp_path), KEY, [(1, 1, 9.0)])
    assert load_profile(str(tmp_path), KEY) == (POINTS, "")
    assert len(list((tmp_path / NOTES).iterdir())) == 1


def test_the_latest_profile_of_a_model_is_found_by_its_name(tmp_path: Path) -> None:
    cache = str(tmp_path)
    gpu = dataclasses.replace(KEY, device="cuda (Card)", dtype="bfloat16", threads=8)
    for age, key in enumerate([KEY, gpu, dataclasses.replace(KEY, model="org_model")]):
        known = {path: path.stat().st_mtime for path in tmp_path.rglob("*.json")}
        save_profile(cache, key, [(1, 8, 1.0 + age)])
        (made,) = set(tmp_path.rglob("*.json")) - set(known)
        os.utime(made, (1000.0 + age, 1000.0 + age))
    assert latest_profile(cache, "org/model") is not None
    assert getattr(latest_profile(cache, "org/model"), "key", None) == gpu
    for wanted in ({"device": "cpu"}, {"dtype": "float32"}, {"threads": 2}):
        assert getattr(latest_profile(cache, "org/model", **wanted), "key", None) == KEY  # type: ignore[arg-type]
    assert getattr(latest_profile(cache, "org/model", device="cuda:1"), "key", None) == gpu
    assert latest_profile(cache, "org/model", dtype="float16") is None
    assert latest_profile(cache, "another") is None


def test_the_name_of_a_model_cannot_leave_the_folder(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("../../evil", "/etc/passwd", "..", "x" * 500):
        assert save_profile(str(cache), dataclasses.replace(KEY, model=name), POINTS) == ""
        assert latest_profile(str(cache), name) is not None
    assert {path.parent for path in tmp_path.rglob("*.json")} == {cache / NOTES}


def test_the_content_of_a_model_changes_with_its_config_and_its_weights(tmp_path: Path) -> None:
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    config.write_text("{}")
    weights.write_bytes(b"1234")
    before = content_of(tmp_path)
    assert content_of(tmp_path) == before
    os.utime(config, (1.0, 1.0))  # fetched anew, the same text
    assert content_of(tmp_path) == before
    config.write_text("[]")
    other_config = content_of(tmp_path)
    os.utime(weights, (1.0, 1.0))
    other_weights = content_of(tmp_path)
    assert len({before, other_config, other_weights}) == 3


def test_reading_a_profile_loads_no_torch() -> None:
    script = "import service.cache.profiles, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
