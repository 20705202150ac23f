"""The knobs are checked at birth."""

from __future__ import annotations

import pytest

from batcher.limits import Limits


@pytest.mark.parametrize(
    "name", ["max_batch_size", "max_batch_tokens", "max_queue_size", "max_queue_tokens"]
)
def test_a_limit_below_one_is_refused_by_name(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize("max_wait", [-0.001, float("inf"), float("nan")])
def test_a_max_wait_that_is_no_time_is_refused(max_wait: float) -> None:
    with pytest.raises(ValueError, match="max_wait must be 0 or more seconds"):
        Limits(max_wait=max_wait)


def test_a_cache_of_less_than_nothing_is_refused() -> None:
    assert Limits(cache_bytes=0).cache_bytes == 0
    with pytest.raises(ValueError, match="cache_bytes must be 0 or more, not -1"):
        Limits(cache_bytes=-1)


def test_equal_inputs_are_shared_and_no_answer_is_kept_by_default() -> None:
    assert (Limits().share_equal, Limits().cache_bytes) == (True, 0)


def test_batching_without_lingering_is_the_default() -> None:
    assert Limits().max_wait == 0.0
