"""Claims about how `backends` and `sts` judge."""

import pytest

from loadtests.checks import backends, sts
from loadtests.checks.backends import ALONE, AUTO, EAGER, SHORT
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import Outcome


def test_auto_is_held_against_the_best_single_backend_round_by_round() -> None:
    # The second round was slow for all: the medians of either alone would mislead.
    times = {
        (SHORT, AUTO): [1.04, 2.08, 1.04],
        (SHORT, "torch"): [1.5, 3.0, 1.5],
        (SHORT, "onnx"): [1.0, 2.0, 1.0],
    }
    (found,) = backends.judged(times)
    assert "onnx" in found.what
    assert (found.measured, found.ok) == (pytest.approx(1.04), True)
    times[SHORT, AUTO] = [1.06, 2.12, 1.06]
    assert backends.judged(times)[0].ok is False


@pytest.mark.parametrize(("auto", "holds"), [(0.5, True), (0.51, False)])
def test_one_caller_waits_half_as_long_as_with_eager_bfloat16(auto: float, holds: bool) -> None:
    times = {(ALONE, AUTO): [auto], (ALONE, "torch"): [auto], (ALONE, EAGER): [1.0]}
    found = backends.judged(times)
    # Eager bfloat16 is another precision: auto is not judged slower than that.
    assert [finding.ok for finding in found] == [True, holds]


def test_each_round_begins_with_another() -> None:
    rounds = ["".join(backends.turned(["a", "b", "c"], repeat)) for repeat in range(7)]
    assert rounds == ["abc", "bca", "cab", "acb", "bac", "cba", "abc"]


def test_a_lone_caller_counts_by_median_and_many_by_all_of_their_latency() -> None:
    outcomes = []
    for number in range(100):
        made = Outcome(number * 0.1)
        latency = 0.32 if number % 4 == 0 else 0.64  # from the second on: 68 and 22 of 90
        made.sent, made.answered, made.status = made.scheduled, made.scheduled + latency, "200"
        outcomes.append(made)
    run = Run(outcomes, 0.0, 10.0)
    assert backends.seconds_an_answer(run, 1) == pytest.approx(0.64)
    assert backends.seconds_an_answer(run, 64) == pytest.approx((68 * 0.64 + 22 * 0.32) / 90 / 64)
    outcomes[0].status = "503"
    with pytest.raises(RuntimeError, match="1 requests were not answered: 503"):
        backends.seconds_an_answer(run, 64)


def test_int8_is_asked_of_the_backend_that_has_it() -> None:
    settings = sts.variant("int8", {}).settings
    assert (settings["BATCHER_BACKEND"], settings["BATCHER_DTYPE"]) == ("onnx", "int8")
    assert "BATCHER_BACKEND" not in sts.variant("bfloat16", {}).settings
    chosen = sts.variant("int8", {"backend": "openvino"}).settings
    assert chosen["BATCHER_BACKEND"] == "openvino"
