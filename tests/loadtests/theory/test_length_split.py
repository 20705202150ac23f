"""Claims about mixed lengths and the least time that they can be run in."""

from itertools import combinations, pairwise

import pytest

from loadtests.theory import length_split as lengths
from loadtests.theory.length_split import Device

# 4 ms and 4 us a token: what the published table was computed with.
TABLE = Device(fixed=0.004, per_token=4e-6, limit=32)


@pytest.mark.parametrize(
    ("name", "padding", "rate"),
    [
        ("queries", 0.67, 2790),
        ("lognormal", 0.77, 536),
        ("90/10", 0.85, 479),
        ("uniform", 0.47, 473),
    ],
)
def test_fifo_costs_what_the_table_says(name: str, padding: float, rate: float):
    found = lengths.in_order(lengths.mix(name, seed=1, count=12_800), TABLE)
    assert found.rate == pytest.approx(rate, rel=0.04)
    assert 1 - found.useful_share == pytest.approx(padding, abs=0.02)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("queries", 4791), ("lognormal", 1468), ("90/10", 2165), ("uniform", 728)],
)
def test_best_split_of_128_takes_what_the_table_says(name: str, rate: float):
    # The table's groups may be as large as the pool.
    device = Device(TABLE.fixed, TABLE.per_token, limit=128)
    found = lengths.split(lengths.mix(name, seed=1, count=12_800), device)
    assert found.rate == pytest.approx(rate, rel=0.06)


def test_no_other_split_of_the_sorted_lengths_is_quicker():
    device = Device(fixed=0.01, per_token=1e-3, limit=4)
    drawn = sorted(lengths.mix("queries", seed=2, count=10))
    best = min(
        sum(device.time(b - a, drawn[b - 1]) for a, b in pairwise(ends))
        for count in range(10)
        for cuts in combinations(range(1, 10), count)
        for ends in [(0, *cuts, 10)]
        if all(b - a <= device.limit for a, b in pairwise(ends))
    )
    assert lengths.split(drawn, device).seconds == pytest.approx(best)


def test_every_text_is_run_once_and_no_batch_is_over_the_limit():
    drawn = lengths.mix("90/10", seed=3, count=300)
    for found in (lengths.in_order(drawn, TABLE), lengths.split(drawn, TABLE)):
        assert (found.texts, found.useful) == (300, sum(drawn))
        assert found.useful <= found.tokens
    groups = lengths._best_groups(sorted(drawn), TABLE)
    assert [words for group in groups for words in group] == sorted(drawn)
    assert max(map(len, groups)) <= TABLE.limit


def test_equal_lengths_cost_no_padding_in_any_order():
    assert lengths.in_order([7] * 64, TABLE) == lengths.split([7] * 64, TABLE)
    assert lengths.in_order([7] * 64, TABLE).useful_share == 1


def test_texts_have_their_words_and_are_all_different():
    texts = [lengths.text(number, words) for number, words in enumerate([1, 1, 2, 2, 512])]
    assert [len(text.split()) for text in texts] == [1, 1, 2, 2, 512]
    assert len(set(texts)) == 5
