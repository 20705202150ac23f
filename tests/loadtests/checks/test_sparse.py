"""Claims about how `sparse` and `rerank` judge."""

import pytest

from loadtests.checks import rankings, rerank, sparse


def test_the_furthest_weight_is_found_on_either_side() -> None:
    assert sparse._apart([{1: 2.0, 2: 0.5}], [{1: 2.0, 2: 0.5}]) == 0
    assert sparse._apart([{1: 2.0}], [{1: 2.0, 7: 1.0}]) == pytest.approx(0.5)
    assert sparse._apart([{1: 2.0, 7: 0.25}], [{1: 2.0}]) == pytest.approx(0.25)


def test_an_order_counts_where_the_scores_are_apart() -> None:
    ranked = [[{"index": 1}, {"index": 0}, {"index": 2}]]
    assert rankings.misordered(ranked, [[2.0, 3.0, 1.0]]) == 0
    assert rankings.misordered(ranked, [[3.00001, 3.0, 1.0]]) == 0
    assert rankings.misordered(ranked, [[3.1, 3.0, 1.0]]) == 1


def test_a_dot_product_is_of_the_words_that_both_have() -> None:
    assert sparse._dot({1: 2.0, 3: 1.0}, {3: 0.5, 4: 9.0}) == 0.5


def test_the_furthest_score_is_found_by_its_place() -> None:
    ranked = [[{"index": 1, "score": 0.9}, {"index": 0, "score": 0.5}]]
    assert rerank._apart(ranked, [[0.5, 0.9]]) == 0
    assert rerank._apart(ranked, [[0.5, 0.7]]) == pytest.approx(0.2)
