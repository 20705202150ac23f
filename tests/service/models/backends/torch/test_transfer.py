"""The way to the device and back, on a CPU: streams that only note what is asked of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

import torch

from service.models.backends.accuracy import Opened
from service.models.backends.torch.bert import Bert
from service.models.backends.torch.cuda import CudaBackend
from service.models.backends.torch.eager import TorchBackend, load
from service.models.backends.torch.graph_shapes import Shape
from service.models.backends.torch.padded import Encode
from service.models.backends.torch.transfer import (
    BUFFERS,
    Streams,
    TransferBuffers,
    plan_layout,
    taken_apart,
)
from service.models.encoder import EncoderRunner
from service.models.heads import vector_head_of
from service.repository.spec import EncoderSpec
from service.tasks.all_tokens import FLAG
from tests.service.configs import runner_config
from tests.service.tiny import TINY_TEXTS, make_tiny, read_spec

Ids = NDArray[np.int32]


class Noted:
    """One list for all streams: what was asked, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._events = 0

    def event(self) -> Event:
        self._events += 1
        return Event(self.log, f"event {self._events}")

    def streams(self) -> Streams:
        names = ("in", "compute", "out")
        incoming, compute, outgoing = (Stream(self.log, name) for name in names)

        @contextlib.contextmanager
        def use(stream: Stream) -> Iterator[None]:
            self.log.append(f"use {stream.name}")
            yield

        def synchronize() -> None:
            self.log.append("wait for all")

        device = torch.device("cpu")
        return Streams(incoming, compute, outgoing, use, self.event, synchronize, device, False)


class Event:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def synchronize(self) -> None:
        self.log.append(f"wait {self.name}")


class Stream:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_event(self, event: Event) -> None:
        self.log.append(f"{self.name} waits {event.name}")

    def record_event(self, event: Event) -> None:
        self.log.append(f"{self.name} records {event.name}")


def sequence(*ids: int) -> Ids:
    return np.array(ids, dtype=np.int32)


def sums(numbers: torch.Tensor, shape: Shape) -> torch.Tensor:
    """A model whose answer to a text is (length, sum of its ids)."""
    ids, lengths = taken_apart(numbers, shape)
    return torch.stack([lengths.float(), ids.sum(1).float()], dim=1)


def launch(pool: TransferBuffers, *sequences: Ids, shape: Shape | None = None) -> Callable[[], Any]:
    least = Shape(len(sequences), max(len(ids) for ids in sequences))
    return pool.launch(list(sequences), shape or least, 0, sums)


def test_a_batch_is_queued_in_order_and_waits_once_at_the_end() -> None:
    noted = Noted()
    pool = TransferBuffers(noted.streams(), 2)
    noted.log.clear()
    collect = launch(pool, sequence(1, 2), sequence(5))
    assert noted.log == [
        *("use in", "in records event 1"),
        *("use compute", "compute waits event 1", "compute records event 2"),
        *("use out", "out waits event 2", "out records event 3"),
    ]
    assert collect().tolist() == [[2, 3], [1, 5]]
    assert noted.log[8:] == ["wait event 3"]


def test_rows_of_a_larger_shape_are_no_answers() -> None:
    noted = Noted()
    collect = launch(TransferBuffers(noted.streams(), 2), sequence(4, 5), shape=Shape(3, 8))
    assert collect().tolist() == [[2, 9]]


def test_a_batch_that_is_larger_than_any_before_fits() -> None:
    noted = Noted()
    pool = TransferBuffers(noted.streams(), 2)
    noted.log.clear()
    many = [sequence(*range(number + 1)) for number in range(60)]
    collect = launch(pool, *many)
    assert collect()[:, 0].tolist() == list(range(1, 61))
    # Its new memory comes from the stream that nothing is computed on.
    assert noted.log[:3] == ["use in", "use in", "in records event 1"]


def test_batches_in_flight_do_not_touch_each_other() -> None:
    pool = TransferBuffers(Noted().streams(), 2)
    first, second = launch(pool, sequence(1)), launch(pool, sequence(2))
    answers = first()
    third = launch(pool, sequence(3))  # while the second is still out
    assert [answers.tolist(), second().tolist(), third().tolist()] == [[[1, 1]], [[1, 2]], [[1, 3]]]


def test_an_answer_stays_what_it_is_when_its_slot_is_used_again() -> None:
    pool = TransferBuffers(Noted().streams(), 2)
    answers = [launch(pool, sequence(number))() for number in range(3 * BUFFERS)]
    assert [int(answer[0, 1]) for answer in answers] == list(range(3 * BUFFERS))


def test_a_slot_is_not_used_again_before_it_is_collected() -> None:
    pool = TransferBuffers(Noted().streams(), 2)
    for number in range(BUFFERS):
        launch(pool, sequence(number))
    with pytest.raises(AssertionError, match="this is a bug"):
        launch(pool, sequence(9))


def test_a_batch_that_fails_gives_its_slot_back_once_the_device_is_done() -> None:
    noted = Noted()
    pool = TransferBuffers(noted.streams(), 2)

    def fails(*_: Any) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    for _ in range(2 * BUFFERS):
        with pytest.raises(RuntimeError, match="no such kernel"):
            pool.launch([sequence(1)], Shape(1, 1), 0, fails)
        assert noted.log[-1] == "wait for all"
    assert launch(pool, sequence(7))().tolist() == [[1, 7]]


def test_what_is_no_text_has_one_padding_token() -> None:
    into = np.full(2 + 2 * 3, 99, dtype=np.int32)
    plan_layout([sequence(7, 8)], Shape(2, 3), 5, into)
    assert into.tolist() == [2, 1, 7, 8, 5, 5, 5, 5]


# The whole backend, but for the device.


def queued(folder: Path) -> tuple[CudaBackend, TorchBackend, EncoderSpec]:
    spec, cpu = read_spec(folder), torch.device("cpu")
    eager = TorchBackend(load(spec, cpu, torch.float32), spec, cpu)
    encode = Encode(Bert(eager.model), spec, vector_head_of(spec).finish(eager.model, spec))
    return CudaBackend(encode, spec, Noted().streams(), eager), eager, spec


def texts(*lengths: int) -> list[Ids]:
    draw = np.random.default_rng(1)
    return [draw.integers(0, 9, length, dtype=np.int32) for length in lengths]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_queued_answers_are_those_of_the_model_as_it_comes(
    tmp_path: Path, kind: str, pooling: str
) -> None:
    backend, eager, _ = queued(make_tiny(tmp_path, kind, pooling, normalize=True))
    for batch in (texts(5), texts(4, 4), texts(9, 1, 4, 15)):
        np.testing.assert_allclose(backend.forward(batch), eager.forward(batch), atol=1e-5)


def test_a_batch_runs_in_the_graph_that_holds_it_and_else_without(tmp_path: Path) -> None:
    backend, eager, _ = queued(make_tiny(tmp_path, "bert", "mean", normalize=True))
    ran: list[Shape] = []

    def graph(numbers: torch.Tensor, shape: Shape) -> torch.Tensor:
        ran.append(shape)
        return backend.plain(numbers, shape)

    backend.graphs = {Shape(4, 8): graph, Shape(2, 8): graph}
    for batch in (texts(3), texts(8, 2, 1), texts(9)):
        np.testing.assert_allclose(backend.forward(batch), eager.forward(batch), atol=1e-5)
    assert ran == [Shape(2, 8), Shape(4, 8)]
    assert backend.facts()["cuda_graphs"] == 2


def test_a_batch_may_hold_texts_that_want_all_of_their_tokens(tmp_path: Path) -> None:
    backend, eager, _ = queued(make_tiny(tmp_path, "roberta", "mean", normalize=True))
    batch = texts(9, 1, 4, 15)
    answers, states = backend.with_tokens(batch, [0, 2])
    right, expected = eager.with_tokens(batch, [0, 2])
    np.testing.assert_allclose(answers, right, atol=1e-5)
    assert [len(each) for each in states] == [9, 4]
    for each, one in zip(states, expected, strict=True):
        np.testing.assert_allclose(each, one, atol=1e-5)


def test_no_room_for_a_batch_is_a_memory_error_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _, _ = queued(make_tiny(tmp_path, "bert", "mean", normalize=True))
    with monkeypatch.context() as patched:
        patched.setattr(backend, "_encode", lambda *_: torch.empty(2**60, dtype=torch.uint8))
        with pytest.raises(MemoryError, match="2 inputs do not fit"):
            backend.launch(texts(3, 3))
    assert len(backend.forward(texts(3, 3))) == 2


def test_the_runner_launches_where_its_backend_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.models import encoder

    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    backend, _, _ = queued(folder)
    runner = EncoderRunner(runner_config(str(folder), device="cpu", dtype="float32"))
    runner.warm_up()
    assert runner.launch is None  # a CPU does one thing at a time
    expected = runner.run(TINY_TEXTS)
    monkeypatch.setattr(encoder, "open_backend", lambda *_: Opened(backend, {}))
    runner.warm_up()
    assert runner.launch is not None
    first, second = runner.launch(TINY_TEXTS[:2]), runner.launch(TINY_TEXTS[2:])
    np.testing.assert_allclose(np.concatenate([first(), second()]), expected, atol=1e-5)
    assert len(runner.launch([])()) == 0
    ids = np.array([2, 4, 3], np.int32)
    tokens, pooled = runner.launch([{"input_ids": ids, "all_tokens": FLAG}, ids])()
    assert (tokens.shape, pooled.shape) == ((3, 32), expected[0].shape)
