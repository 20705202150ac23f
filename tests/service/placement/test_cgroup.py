from __future__ import annotations

from pathlib import Path

from service.placement import cgroup

MIB = 2**20


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def own(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "own"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_containers_quota_is_rounded_up_to_cores() -> None:
    told = ("max 100000\n", "150000 100000", "10000 100000", "x", "", "1 0")
    assert [cgroup.cores_in(text) for text in told] == [None, 2, 1, None, None, None]


def test_the_tightest_limit_from_the_own_group_up_counts(tmp_path: Path) -> None:
    root, mine = tmp_path / "fs", own(tmp_path, "0::/a/b")
    write(root / "a/b", cpu__max="400000 100000", memory__max="max", memory__current=5 * MIB)
    write(root / "a", cpu__max="200000 100000", memory__max=100 * MIB, memory__current=70 * MIB)
    (root / "a" / "memory.stat").write_text(f"anon 1\ninactive_file {20 * MIB}\n")
    assert cgroup.quota_cores(root, mine) == 2
    assert cgroup.free_memory(root, mine) == 50 * MIB  # what is only cached can be dropped


def test_a_container_that_sees_its_own_group_as_the_root_is_limited_by_it(tmp_path: Path) -> None:
    root, mine = tmp_path / "fs", own(tmp_path, "0::/path/of/the/host")
    write(root, cpu__max="100000 100000", memory__max=64 * MIB, memory__current=65 * MIB)
    assert cgroup.quota_cores(root, mine) == 1
    assert cgroup.free_memory(root, mine) == 0


def test_the_older_control_groups_count_too(tmp_path: Path) -> None:
    root, mine = tmp_path / "fs", own(tmp_path, "4:memory:/x", "2:cpu,cpuacct:/x", "0::/")
    write(root / "memory/x", memory__limit_in_bytes=9 * MIB, memory__usage_in_bytes=2 * MIB)
    write(root / "cpu/x", cpu__cfs_quota_us=250000, cpu__cfs_period_us=100000)
    assert cgroup.quota_cores(root, mine) == 3
    assert cgroup.free_memory(root, mine) == 7 * MIB


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert cgroup.quota_cores(tmp_path, tmp_path / "none") is None
    assert cgroup.free_memory(tmp_path, tmp_path / "none") is None
