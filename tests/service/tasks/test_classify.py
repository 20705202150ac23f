from __future__ import annotations

import itertools
import resource
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from batcher import RunnerFailed
from service.errors import InputError
from service.tasks.classify import Classify, parse, ranked
from service.tasks.input_errors import TextTooLong
from service.tasks.protocol import ModelInput, Options
from service.tasks.text import TextTokenizer
from tests.service.tiny import WORDS, make_classifier, read_spec


def logits(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def classify(activation: Any, labels: int = 3) -> Classify:
    return Classify(None, "abcdefgh"[:labels], activation)  # type: ignore[arg-type]  # not used here


def test_scores_of_several_labels_add_up_to_one() -> None:
    scores = classify("softmax").scores(logits(1, 2, 3))
    np.testing.assert_allclose(scores, [0.09003057, 0.24472847, 0.66524096], rtol=1e-6)
    assert scores.dtype == np.float32


def test_labels_that_do_not_exclude_each_other_have_scores_of_their_own() -> None:
    scores = classify("sigmoid").scores(logits(0, 2, -2))
    np.testing.assert_allclose(scores, [0.5, 0.88079708, 0.11920292], rtol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits_of_any_size_have_scores(activation: str) -> None:
    with np.errstate(all="raise", under="ignore"):
        scores = classify(activation).scores(logits(-3e38, 0, 3e38))
    np.testing.assert_allclose(scores[[0, 2]], [0, 1])


def test_the_highest_comes_first_and_of_equal_ones_the_later_label() -> None:
    got = ranked("abcd", logits(0.2, 0.3, 0.2, 0.1))
    assert [each["label"] for each in got] == ["b", "c", "a", "d"]


@pytest.mark.parametrize(
    "answer", [logits(1, 2), np.ones((3, 1), np.float32), "text", [1, 2, 3], None]
)
def test_what_is_not_a_logit_for_each_label_is_the_models_failure(answer: object) -> None:
    with pytest.raises(RunnerFailed, match="of 3 labels"):
        classify("softmax").result(answer)


@pytest.mark.parametrize(
    ("given", "inputs", "is_batch"),
    [
        ("a", ["a"], False),
        (["a"], ["a"], False),
        (["a", "b"], [("a", "b")], False),
        ([["a"], ["a", "b"]], ["a", ("a", "b")], True),
        ([["a"]], ["a"], True),
    ],
)
def test_two_texts_in_a_list_are_one_pair(given: object, inputs: object, is_batch: bool) -> None:
    assert parse(given, "inputs", 2) == (inputs, is_batch)


@pytest.mark.parametrize(
    ("given", "kind", "field"),
    [
        (None, "invalid_request", "inputs"),
        ({}, "invalid_request", "inputs"),
        ([1], "invalid_request", "inputs"),
        (["a", ["b"]], "invalid_request", "inputs"),
        ([["a"], "b"], "invalid_request", "inputs[1]"),
        ([["a"], [1]], "invalid_request", "inputs[1]"),
        ([], "empty", "inputs"),
        (["a", "b", "c"], "unacceptable_input", "inputs"),
        ([["a"], []], "unacceptable_input", "inputs[1]"),
        ([["a"]] * 3, "too_many_inputs", "inputs"),
    ],
)
def test_any_other_shape_is_named(given: object, kind: str, field: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(given, "inputs", 2)
    assert (refused.value.kind, refused.value.field) == (kind, field)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("classifier"), "bert")


def of(folder: Path) -> Classify:
    spec = read_spec(folder)
    return Classify(TextTokenizer.load(spec), spec.labels, spec.activation)


def arrays(prepared: ModelInput) -> dict[str, list[int]]:
    payload = prepared.payload
    named = payload if isinstance(payload, dict) else {"input_ids": payload}
    assert {array.dtype for array in named.values()} == {np.dtype(np.int32)}
    return {name: array.tolist() for name, array in named.items()}


def test_a_pair_is_one_input_with_the_token_types_of_both(folder: Path) -> None:
    prepared = of(folder).preprocess(("one two", "three"), Options())
    assert arrays(prepared) == {
        "input_ids": [2, 4, 5, 3, 6, 3],
        "token_type_ids": [0, 0, 0, 0, 1, 1],
    }
    assert prepared.cost == 6


def test_one_text_needs_no_token_types(folder: Path) -> None:
    assert arrays(of(folder).preprocess("one two", Options())) == {"input_ids": [2, 4, 5, 3]}


def test_a_model_without_token_types_is_given_none(tmp_path: Path) -> None:
    task = of(make_classifier(tmp_path, "roberta"))
    prepared = task.preprocess(("one", "two"), Options())
    assert arrays(prepared) == {"input_ids": [2, 4, 3, 3, 5, 3]}


def test_a_pair_of_two_long_texts_costs_what_its_length_costs(folder: Path) -> None:
    """Its memory grew with the square of it: 12 GB for 5,000 words each."""
    task = of(folder)
    pair = "one " * 5000, "two " * 5001
    spare = 1 << 30
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, before[1]))
    try:
        got = arrays(task.preprocess(pair, Options()))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert len(got["input_ids"]) == 16


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("words", [(20, 2), (2, 20), (20, 20), (5000, 3), (300, 301)])
def test_a_pair_is_cut_as_the_reference_cuts_it(
    folder: Path, words: tuple[int, int], side: Literal["left", "right"]
) -> None:
    import transformers

    # No two neighbours are the same: which end is gone shows.
    endless = itertools.cycle(WORDS[4:])
    first, second = (" ".join(itertools.islice(endless, number)) for number in words)
    pair = first, second
    reference = transformers.AutoTokenizer.from_pretrained(folder, truncation_side=side)
    expected = reference(*pair, truncation=True, max_length=16, return_token_type_ids=True)
    got = arrays(of(folder).preprocess(pair, Options(truncation_direction=side)))
    assert got["input_ids"] == expected["input_ids"]
    assert got["token_type_ids"] == expected["token_type_ids"]
    with pytest.raises(TextTooLong, match="the limit is 16"):
        of(folder).preprocess(pair, Options(truncate=False, truncation_direction=side))


def test_a_cross_encoders_default_prompt_goes_before_the_first_text(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    made = make_classifier(tmp_path / "plain", "bert", labels=1)
    prompts = {"search": "three four ", "other": "five"}
    reference = CrossEncoder(str(made), device="cpu", prompts=prompts, default_prompt_name="search")
    reference.save_pretrained(str(tmp_path / "full"), create_model_card=False)
    task = of(tmp_path / "full")
    for pair in (("one", "two"), ("one " * 20, "two " * 9)):
        expected = reference.preprocess([pair], prompt=prompts["search"])["input_ids"][0].tolist()
        assert arrays(task.preprocess(pair, Options()))["input_ids"] == expected
    expected = reference.preprocess(["one"], prompt=prompts["search"])["input_ids"][0].tolist()
    assert arrays(task.preprocess("one", Options()))["input_ids"] == expected
