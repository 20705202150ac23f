"""Claims about the offline forward pass and the share of it that is served."""

import argparse
from collections.abc import Callable, Sequence

import pytest

from loadtests.baselines.offline import batches, run_all
from loadtests.checks import offline
from loadtests.drivers.target import setting_argument

INPUTS = [[0] * length for length in (3, 1, 4, 1, 5)]


def test_texts_of_like_length_go_together_and_the_longest_first() -> None:
    assert [[len(one) for one in batch] for batch in batches(INPUTS, 2)] == [[5, 4], [3, 1], [1]]


class Queued:
    """A runner that queues. Remembers how many batches were out at once, and their order."""

    def __init__(self) -> None:
        self.out, self.most, self.done = 0, 0, list[int]()

    def run(self, payloads: Sequence[object]) -> Sequence[object]:
        raise AssertionError("it can queue")

    def launch(self, payloads: Sequence[object]) -> Callable[[], Sequence[object]]:
        self.out += 1
        self.most = max(self.most, self.out)

        def wait() -> Sequence[object]:
            self.out -= 1
            self.done.append(len(payloads))
            return payloads

        return wait


def test_a_runner_that_can_queue_has_one_batch_behind_the_one_that_runs() -> None:
    runner = Queued()
    run_all(runner, [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4]])
    assert (runner.most, runner.out, runner.done) == (2, 0, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("available", "asked", "model", "others"),
    [
        ({0, 1}, None, {0}, {1}),
        ({3}, None, {3}, {3}),
        ({0, 1, 2, 3, 4}, None, {0, 1}, {2, 3, 4}),
        ({0, 1, 2}, frozenset({1, 2}), {1, 2}, {0}),
    ],
)
def test_the_model_has_its_cores_and_the_rest_has_the_others(
    available: set[int], asked: frozenset[int] | None, model: set[int], others: set[int]
) -> None:
    assert offline.cores(available, asked) == (model, others)


@pytest.mark.parametrize(("served", "holds"), [(85.0, True), (84.9, False)])
def test_served_is_held_against_the_best_size_in_the_median(served: float, holds: bool) -> None:
    """Round by round: the machine may be half as fast in the next one."""
    alone = {8: [90.0, 300.0, 40.0], 32: [100.0, 200.0, 50.0]}
    found = offline.judged(alone, [70.0], [served, 2 * served, served / 2], [20.0])
    assert (found[0].measured, found[0].ok) == (pytest.approx(served / 100.0), holds)
    assert [finding.ok for finding in found[1:]] == [None, None, None]


def test_a_setting_is_a_name_and_a_value() -> None:
    assert setting_argument("backend=onnx") == ("backend", "onnx")
    assert setting_argument("model=a=b") == ("model", "a=b")
    for wrong in ("backend", "=onnx", "a b=c"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not name=value"):
            setting_argument(wrong)
