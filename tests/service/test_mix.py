"""Which backend runs which batch, by what was measured of each."""

from __future__ import annotations

import pytest

from service.models.backends.mix import Chooser, Curve, Measured, Plan, choose
from service.models.backends.racing import as_note, from_note

ONE, FEW, MANY = (8,), (16,) * 8, (64,) * 32
UNEQUAL = (8, 8, 8, 8, 8, 8, 8, 64)


def measured(one: float, few: float, many: float, unequal: float, *, pads: bool = True) -> Measured:
    return Measured(pads, {ONE: one, FEW: few, MANY: many, UNEQUAL: unequal})


QUICK_ALONE = measured(6, 60, 1000, 240)
QUICK_TOGETHER = measured(12, 66, 800, 60, pads=False)


def test_a_backend_that_is_nowhere_behind_is_taken_alone() -> None:
    found = {"a": measured(1, 5, 50, 9), "b": measured(2, 6, 55, 10)}
    assert choose(found, may_mix=True) == Plan(("a",), 1.0)


def test_a_second_backend_is_not_worth_five_percent() -> None:
    found = {"a": measured(1, 5, 52, 9), "b": measured(2, 6, 50, 10)}
    assert choose(found, may_mix=True) == Plan(("a",), 52 / 50)


def test_where_none_wins_everywhere_each_batch_takes_the_one_that_suits_it() -> None:
    found = {"onnx": QUICK_ALONE, "torch": QUICK_TOGETHER}
    plan = choose(found, may_mix=True)
    assert set(plan.backends) == {"onnx", "torch"}
    assert plan.regret == 1.0
    chooser = Chooser(found)
    assert [chooser.fastest(each) for each in (ONE, FEW, MANY)] == ["onnx", "onnx", "torch"]


def test_padding_counts_against_a_backend_that_pads_only() -> None:
    chooser = Chooser({"onnx": QUICK_ALONE, "torch": QUICK_TOGETHER})
    assert sum(UNEQUAL) < sum(FEW)
    assert chooser.fastest((15,) * 8) == "onnx"
    assert chooser.fastest(UNEQUAL) == "torch"


def test_where_two_must_not_be_mixed_the_least_regretted_one_is_taken() -> None:
    found = {"onnx": QUICK_ALONE, "torch": QUICK_TOGETHER}
    plan = choose(found, may_mix=False)
    assert plan == Plan(("torch",), 2.0)  # twice as slow on one; the other 4 times on unequal ones


def test_a_batch_that_not_all_had_time_for_is_not_judged_by() -> None:
    found = {"a": Measured(True, {ONE: 1.0}), "b": Measured(True, {ONE: 2.0, FEW: 3.0})}
    assert choose(found, may_mix=True) == Plan(("a",), 1.0)


def test_a_single_backend_needs_no_comparison() -> None:
    assert choose({"a": QUICK_ALONE}, may_mix=True) == Plan(("a",), 1.0)


def test_a_curve_goes_through_its_points_and_on_in_proportion() -> None:
    curve = Curve(((8, 0.01), (128, 0.04)))
    assert curve.seconds(8) == 0.01
    assert curve.seconds(1) == 0.01
    assert curve.seconds(32) == pytest.approx(0.02)  # straight in the logarithms
    assert curve.seconds(128) == pytest.approx(0.04)
    assert curve.seconds(256) == pytest.approx(0.08)


def test_it_says_in_words_who_runs_what() -> None:
    text = str(Chooser({"onnx": QUICK_ALONE, "torch": QUICK_TOGETHER}))
    assert text.startswith("onnx, torch from ")


def test_what_was_measured_comes_back_as_it_was_noted() -> None:
    found = {"onnx": QUICK_ALONE, "torch": QUICK_TOGETHER}
    assert from_note(as_note(found)) == found


@pytest.mark.parametrize(
    "note",
    [
        {},
        {"a": {}},
        {"a": {"pads": True, "seconds": [[[8, 9], 1.0]]}},
        {
            "a": {"pads": True, "seconds": [[[8], 1.0]]},
            "b": {"pads": True, "seconds": [[[9], 1.0]]},
        },
        {"a": {"pads": True, "seconds": []}},
        {"a": {"pads": True, "seconds": [[[8], -1.0]]}},
        {"a": {"pads": True, "seconds": [[[0], 1.0]]}},
        {"a": {"pads": True, "seconds": [[[], 1.0]]}},
        {"a": {"pads": True, "seconds": [[["x"], 1.0]]}},
    ],
)
def test_a_note_that_makes_no_sense_is_refused(note: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        from_note(note)
