"""What the exceptions and the odd results of a model mean."""

from __future__ import annotations

from batcher.errors import Overloaded
from batcher.failures import as_outcome, explain


def test_no_text_of_a_model_forges_a_line_or_reaches_the_terminal() -> None:
    assert explain(ValueError("a\nERROR b\x1b[31m\x00c")) == "ValueError: a ERROR b [31m c"


def test_an_error_is_explained_in_one_line() -> None:
    assert explain(ValueError("no\n   such thing")) == "ValueError: no such thing"
    assert explain(MemoryError()) == "MemoryError"


def test_a_result_that_is_an_exception_stands_for_an_error() -> None:
    ours = Overloaded("full", 1.0)
    assert as_outcome(ours) is ours
    assert str(as_outcome(KeyError("k"))) == "KeyError: 'k'"
    assert as_outcome("a result") is None
