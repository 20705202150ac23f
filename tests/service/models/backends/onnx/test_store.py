"""Graphs and notes in the cache folder: made once, whole, and again if anything is wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from service.cache.notes import load_note, save_note, single_writer
from service.models.backends.onnx.store import FOLDER, graph

KEY = {"content": "abc", "kept": ("x",)}


class Making:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self, path: Path) -> None:
        self.times += 1
        path.write_bytes(b"graph" * 100)


def read(cache: Path | str, making: Making, said: list[str], **key: object) -> bytes:
    with graph(str(cache), {**KEY, **key}, making, said.append) as path:
        return path.read_bytes()


def test_a_graph_is_made_once_for_a_key(tmp_path: Path) -> None:
    making, said = Making(), list[str]()
    first = read(tmp_path, making, said)
    assert read(tmp_path, making, said) == first == b"graph" * 100
    assert making.times == 1
    read(tmp_path, making, said, content="another")
    assert making.times == 2
    assert said == []


@pytest.mark.parametrize("damage", [b"", b"graph" * 99, b"graph" * 99 + b"grapf"])
def test_a_graph_whose_bytes_have_changed_is_made_again_and_that_is_said(
    tmp_path: Path, damage: bytes
) -> None:
    making, said = Making(), list[str]()
    read(tmp_path, making, said)
    [path] = (tmp_path / FOLDER).glob("*.onnx")
    path.write_bytes(damage)
    assert read(tmp_path, making, said) == b"graph" * 100
    assert making.times == 2
    assert len(said) == 1
    assert "its bytes have changed; exporting it again" in said[0]


@pytest.mark.parametrize("seal", ["", "{", "[]", '{"key": {}}'])
def test_a_graph_without_its_seal_is_made_again(tmp_path: Path, seal: str) -> None:
    making, said = Making(), list[str]()
    read(tmp_path, making, said)
    [path] = (tmp_path / FOLDER).glob("*.json")
    path.write_text(seal)
    assert read(tmp_path, making, said) == b"graph" * 100
    assert making.times == 2
    assert len(said) == 1


def test_a_graph_that_fails_to_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        path.write_bytes(b"half of it")
        raise ValueError("no")

    with (
        pytest.raises(ValueError, match="no"),
        graph(str(tmp_path), KEY, fails, print),
    ):
        pytest.fail("there is no graph")
    assert [path.suffix for path in (tmp_path / FOLDER).iterdir()] == [".lock"]
    assert read(tmp_path, Making(), []) == b"graph" * 100


def test_without_a_cache_folder_the_graph_is_gone_afterwards() -> None:
    with graph("", KEY, Making(), print) as path:
        assert path.exists()
    assert not path.parent.exists()


def test_a_cache_folder_that_cannot_be_written_is_said_and_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    assert read(tmp_path / "file", Making(), said) == b"graph" * 100
    assert len(said) == 1
    assert "cannot be saved" in said[0]


def test_a_good_graph_in_a_folder_that_cannot_be_written_is_used(tmp_path: Path) -> None:
    making, said = Making(), list[str]()
    read(tmp_path, making, said)
    [lock] = (tmp_path / FOLDER).glob("*.lock")
    lock.unlink()
    lock.mkdir()  # nobody can open it, not even root
    assert read(tmp_path, making, said) == b"graph" * 100
    assert (making.times, said) == (1, [])


def test_a_disk_that_is_full_is_said_and_done_without(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        if path.is_relative_to(tmp_path):
            raise OSError(28, "No space left on device")
        path.write_bytes(b"elsewhere")

    said: list[str] = []
    with graph(str(tmp_path), KEY, make, said.append) as path:
        assert path.read_bytes() == b"elsewhere"
    assert len(said) == 1
    assert "No space left" in said[0]


def test_a_note_comes_back_under_its_own_key_only(tmp_path: Path) -> None:
    assert save_note(str(tmp_path), "kind", KEY, {"a": [1.5, "b"]}) == ""
    assert load_note(str(tmp_path), "kind", KEY) == ({"a": [1.5, "b"]}, "")
    assert load_note(str(tmp_path), "kind", {**KEY, "content": "else"}) == (None, "")
    assert load_note(str(tmp_path), "other", KEY) == (None, "")
    assert load_note("", "kind", KEY) == (None, "")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1, "value": {}}'])
def test_a_note_that_cannot_be_read_says_why(tmp_path: Path, text: str) -> None:
    save_note(str(tmp_path), "kind", KEY, {})
    [path] = tmp_path.glob("notes/*.json")
    path.write_text(text)
    value, why = load_note(str(tmp_path), "kind", KEY)
    assert value is None
    assert "cannot be used" in why


def test_a_note_that_cannot_be_saved_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be saved" in save_note(str(tmp_path / "file"), "kind", KEY, {})


def test_one_at_a_time_finds_out_what_is_noted_under_a_key(tmp_path: Path) -> None:
    waits, entered = threading.Event(), threading.Event()

    def second() -> None:
        with single_writer(str(tmp_path), "kind", KEY, lambda _: waits.set()):
            entered.set()

    waiting = threading.Thread(target=second, name="second")
    with single_writer(str(tmp_path), "kind", KEY, print):
        with single_writer(str(tmp_path), "kind", {**KEY, "content": "else"}, print):
            waiting.start()
        assert waits.wait(10)
        assert not entered.is_set()
    waiting.join(10)
    assert entered.is_set()


@pytest.mark.parametrize("cache", ["", "{tmp_path}/file"])
def test_where_nothing_can_be_noted_nobody_waits(tmp_path: Path, cache: str) -> None:
    (tmp_path / "file").touch()
    folder = cache.format(tmp_path=tmp_path)
    with single_writer(folder, "kind", KEY, print), single_writer(folder, "kind", KEY, print):
        assert load_note(folder, "kind", KEY)[0] is None
