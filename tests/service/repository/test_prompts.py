from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.repository.json_files import ModelNotSupported
from service.repository.prompts import with_prompts
from service.repository.spec import EncoderSpec

OWN = {"query": "query: ", "passage": "passage: "}


def spec(**fields: Any) -> EncoderSpec:
    known: dict[str, Any] = {
        "folder": Path(),
        "pooling": "mean",
        "normalize": True,
        "max_length": 16,
        "dimension": 8,
        "vocab_size": 9,
        "pad_id": 0,
        "prompt": "query: ",
        "prompts": OWN,
        "default_prompt_name": "query",
    }
    return EncoderSpec(**known | fields)


def test_without_settings_a_model_has_its_own_prompts() -> None:
    assert with_prompts(spec(), None, {}) == spec()


def test_a_prompt_of_the_settings_is_the_default_one() -> None:
    got = with_prompts(spec(), "find: ", {})
    assert (got.prompt, got.default_prompt_name, got.prompts) == ("find: ", None, OWN)
    got = with_prompts(spec(), "find: ", {"search": "find: "})
    assert (got.prompt, got.default_prompt_name) == ("find: ", "search")


def test_named_prompts_win_over_those_of_the_files() -> None:
    got = with_prompts(spec(), None, {"query": "q: ", "other": "o: "})
    assert got.prompts == {"query": "q: ", "passage": "passage: ", "other": "o: "}
    assert (got.prompt, got.default_prompt_name) == ("q: ", "query")


def test_a_model_without_a_default_prompt_gets_none_by_naming_some() -> None:
    got = with_prompts(spec(prompt="", default_prompt_name=None), None, {"query": "q: "})
    assert (got.prompt, got.default_prompt_name) == ("", None)


def test_the_labels_of_tokens_are_of_the_text_alone() -> None:
    with pytest.raises(ModelNotSupported, match="BATCHER_PROMPTS are not for a token classifier"):
        with_prompts(spec(task="tag"), "x", {})
