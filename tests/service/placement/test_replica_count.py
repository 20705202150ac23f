"""How many replicas and where: decisions, for machines that are written down here."""

from __future__ import annotations

import pytest

from service.placement.cuda import Gpu, Gpus
from service.placement.memory import MIB, Need
from service.placement.replica_count import Machine, Placement, Refused, counts, devices_of, place

GIB = 1024 * MIB
TWO = Gpus((Gpu("Card", 16 * GIB, "a"), Gpu("Card", 8 * GIB, "b")))
NONE = Gpus(why="torch 2.13 sees no CUDA device")


def machine(gpus: Gpus = NONE, cores: int = 16, free: int | None = 32 * GIB) -> Machine:
    return Machine([(number,) for number in range(cores)], cores, gpus, free)


def need(least: int, most: int, note: str = "/cache/note.json") -> Need:
    return Need(least * MIB, most * MIB, note)


def test_auto_is_every_cuda_device_else_the_cpu() -> None:
    assert devices_of("auto", TWO) == ["cuda:0", "cuda:1"]
    assert devices_of("auto", NONE) == ["cpu"]


def test_listed_devices_are_taken_as_often_as_they_are_listed() -> None:
    assert devices_of("cuda,cuda:1,cpu,cpu", TWO) == ["cuda:0", "cuda:1", "cpu", "cpu"]


@pytest.mark.parametrize(
    ("wanted", "gpus", "reason"),
    [
        ("cuda", NONE, "there is no device 'cuda:0': torch 2.13 sees no CUDA device"),
        ("cpu,cuda:2", TWO, "there is no device 'cuda:2': this machine has 2, the last is cuda:1"),
    ],
)
def test_a_device_that_does_not_exist_is_named(wanted: str, gpus: Gpus, reason: str) -> None:
    with pytest.raises(Refused, match=f"BATCHER_DEVICE={wanted}: {reason}"):
        devices_of(wanted, gpus)


def test_a_number_is_for_each_device_and_for_each_time_that_it_is_listed() -> None:
    assert counts(["cuda:0", "cuda:1"], 2, {}, machine(TWO), 0) == {"cuda:0": 2, "cuda:1": 2}
    assert counts(["cpu", "cpu"], 2, {}, machine(), 0) == {"cpu": 4}


def test_auto_fills_the_memory_that_is_free_less_the_reserve() -> None:
    needs = dict.fromkeys(("cuda:0", "cuda:1"), need(1000, 4096))
    found = counts(["cuda:0", "cuda:1"], "auto", needs, machine(TWO), 0)
    assert found == {"cuda:0": 4, "cuda:1": 2}
    found = counts(["cuda:0", "cuda:1"], "auto", needs, machine(TWO), 1)
    assert found == {"cuda:0": 3, "cuda:1": 1}


def test_auto_is_bounded_by_the_cores_too() -> None:
    small = {"cpu": need(1, 1), "cuda:0": need(1, 1), "cuda:1": need(1, 1)}
    assert counts(["cpu"], "auto", small, machine(cores=16), 0) == {"cpu": 4}
    assert counts(["cpu"], "auto", small, machine(cores=2), 0) == {"cpu": 1}
    assert counts(["cuda:0"], "auto", small, machine(TWO, cores=64), 0) == {"cuda:0": 4}
    assert counts(["cuda:0"], "auto", small, machine(TWO, cores=4), 0) == {"cuda:0": 2}


def test_what_nobody_knows_refuses_nothing() -> None:
    assert counts(["cuda:0"], "auto", {"cuda:0": None}, machine(TWO), GIB) == {"cuda:0": 1}
    assert counts(["auto"], 3, {}, machine(free=0), GIB) == {"auto": 3}
    assert counts(["cpu"], 3, {"cpu": need(500, 500)}, machine(free=None), GIB) == {"cpu": 3}


def test_one_replica_starts_if_it_fits_without_its_largest_batch() -> None:
    little = machine(free=1000 * MIB)
    for asked in (1, "auto"):
        assert counts(["cpu"], asked, {"cpu": need(400, 9000)}, little, 600 * MIB) == {"cpu": 1}  # type: ignore[arg-type]
        with pytest.raises(Refused) as refused:
            counts(["cpu"], asked, {"cpu": need(401, 9000)}, little, 600 * MIB)  # type: ignore[arg-type]
        assert str(refused.value) == (
            "too little memory on cpu: a replica needs 401 MiB (as measured, /cache/note.json), and"
            " 400 MiB are free (1,000 MiB less BATCHER_MEMORY_RESERVE_MB=600)"
        )


def test_several_start_only_if_all_fit_with_their_largest_batches() -> None:
    needs = {"cuda:1": need(100, 2048, note="")}
    assert counts(["cuda:1"], 4, needs, machine(TWO), 0) == {"cuda:1": 4}
    with pytest.raises(Refused) as refused:
        counts(["cuda:1"], 4, needs, machine(TWO), MIB)
    assert str(refused.value) == (
        "too little memory on cuda:1: 4 replicas need 8,192 MiB (2,048 MiB each, estimated from the"
        " size of its weights), and 8,191 MiB are free (8,192 MiB less BATCHER_MEMORY_RESERVE_MB=1)"
    )


def on_gpu(most: int, host: int) -> Need:
    return Need(most * MIB, most * MIB, "/cache/note.json", host * MIB)


def test_replicas_on_gpus_take_memory_of_the_host_too() -> None:
    needs = {"cuda:0": on_gpu(10, 600)}
    assert counts(["cuda:0"], 3, needs, machine(TWO, free=1801 * MIB), MIB) == {"cuda:0": 3}
    with pytest.raises(Refused) as refused:
        counts(["cuda:0"], 3, needs, machine(TWO, free=1800 * MIB), MIB)
    assert str(refused.value) == (
        "too little host memory for cuda:0: 3 replicas need 1,800 MiB (600 MiB each, as measured,"
        " /cache/note.json), and 1,799 MiB are free (1,800 MiB less BATCHER_MEMORY_RESERVE_MB=1)"
    )


def test_one_replica_on_a_gpu_must_fit_on_the_host_while_it_loads() -> None:
    for asked in (1, "auto"):
        with pytest.raises(Refused, match="host memory for cuda:0: a replica needs 600 MiB"):
            counts(["cuda:0"], asked, {"cuda:0": on_gpu(10, 600)}, machine(TWO, free=599 * MIB), 0)  # type: ignore[arg-type]


def test_auto_shares_the_memory_of_the_host_among_the_gpus() -> None:
    needs = dict.fromkeys(("cuda:0", "cuda:1"), on_gpu(10, 600))
    for free, found in ((4800, (4, 4)), (4799, (3, 4)), (2400, (2, 2)), (1200, (1, 1))):
        little = machine(TWO, free=free * MIB)
        assert tuple(counts(list(needs), "auto", needs, little, 0).values()) == found
    unknown = machine(TWO, free=None)
    assert counts(list(needs), "auto", needs, unknown, 0) == {"cuda:0": 4, "cuda:1": 4}


def test_what_the_devices_before_take_of_the_host_is_told() -> None:
    needs = {"cuda:0": on_gpu(10, 600), "cpu": need(500, 700)}
    assert counts(["cuda:0", "cpu"], 1, needs, machine(TWO, free=1100 * MIB), 0)
    with pytest.raises(Refused) as refused:
        counts(["cuda:0", "cpu"], 1, needs, machine(TWO, free=1000 * MIB), 0)
    assert str(refused.value) == (
        "too little memory on cpu: a replica needs 500 MiB (as measured, /cache/note.json), and"
        " 400 MiB are free (1,000 MiB less BATCHER_MEMORY_RESERVE_MB=0 and 600 MiB for the other"
        " devices)"
    )


def test_devices_take_turns_and_cpu_replicas_get_their_cores() -> None:
    found = place({"cuda:0": 2, "cpu": 2, "cuda:1": 1}, machine(TWO, cores=8), 0)
    assert found == [
        Placement("cuda:0"),
        Placement("cpu", (2, 3, 4), 3),
        Placement("cuda:1"),
        Placement("cuda:0"),
        Placement("cpu", (5, 6, 7), 3),
    ]
    assert [str(each) for each in found[:2]] == ["cuda:0", "cpu, cores 2-4, 3 threads"]


def test_one_cpu_replica_is_as_free_as_it_was() -> None:
    assert place({"cpu": 1}, machine(), 0) == [Placement("cpu")]
    assert place({"auto": 2}, machine(), 5) == [Placement("auto", threads=5)] * 2
