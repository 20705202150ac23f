"""Claims about what requests say."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadtests.drivers import workloads


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.tsv").write_text("3.0\tOne two three.\tFour  five.\n\tOne two three.\tSix\n")
    (tmp_path / "b.tsv").write_text("1.0\t" + "long " * 13 + "\tSeven\n")
    return tmp_path


def test_every_sentence_is_read_once_scored_or_not(folder: Path):
    sentences = workloads.read_sentences(folder)
    assert sentences == ["One two three.", "Four  five.", "Six", ("long " * 13).strip(), "Seven"]


def test_folder_without_sentences_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no sentences"):
        workloads.read_sentences(tmp_path)


def test_short_texts_have_at_most_twelve_words(folder: Path):
    texts = workloads.texts("short", workloads.read_sentences(folder), seed=1)
    assert max(len(text.split()) for text in texts) <= 12


def test_built_in_sentences_differ_so_that_equal_inputs_are_never_in_flight_together():
    texts = workloads.texts("short", workloads.load_sentences(None), seed=1)
    assert len(set(texts)) == len(texts) == 4096


def test_mixed_texts_have_median_16_and_one_in_twenty_over_60_words():
    texts = workloads.texts("mixed", workloads.built_in_sentences(), seed=1, count=20_000)
    assert len(set(texts)) == len(texts)
    words = np.array([len(text.split()) for text in texts])
    assert np.median(words) == pytest.approx(16, abs=1)
    assert np.mean(words > 60) == pytest.approx(0.05, abs=0.01)
    assert words.min() >= 1
    assert words.max() <= workloads.MIXED_MOST_WORDS


@pytest.mark.parametrize("kind", workloads.KINDS)
def test_texts_are_the_same_for_the_same_seed(kind: str):
    sentences = workloads.built_in_sentences()
    first, again = (workloads.texts(kind, sentences, seed=5, count=100) for _ in range(2))
    assert first == again
    assert first != workloads.texts(kind, sentences, seed=6, count=100)


def test_unknown_kind_is_refused_with_the_kinds_there_are():
    with pytest.raises(ValueError, match="short, all, mixed"):
        workloads.texts("long", ["a"], seed=1)


def test_body_survives_quotes_and_accents():
    text = 'She said "déjà vu"\n'
    assert json.loads(workloads.embed_body(text)) == {"inputs": text}


def test_pool_too_small_for_different_texts_repeats_them_late():
    texts = workloads.texts("mixed", ["one"], seed=1, count=300)
    assert len(texts) == 300
    assert max(len(text.split()) for text in texts) <= 240
