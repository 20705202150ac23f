from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.repository.json_files import ModelNotSupported
from service.repository.sentences import matryoshka_of, read_prompts, truncation_side


def saved(folder: Path, **fields: Any) -> Path:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(fields))
    return folder


def test_prompts_are_read_by_name_with_the_two_that_every_model_has(tmp_path: Path) -> None:
    assert read_prompts(tmp_path, embeds=True) == ({"query": "", "document": ""}, None)
    saved(tmp_path, prompts={"query": "query: ", "passage": None}, default_prompt_name="query")
    prompts = {"query": "query: ", "document": "", "passage": ""}
    assert read_prompts(tmp_path, embeds=True) == (prompts, "query")
    with pytest.raises(ModelNotSupported, match="'nope' is not among its prompts"):
        read_prompts(saved(tmp_path, default_prompt_name="nope"), embeds=True)
    assert read_prompts(saved(tmp_path), embeds=False) == ({}, None)
    with pytest.raises(ModelNotSupported, match="prompts are not named"):
        read_prompts(saved(tmp_path, prompts=["query: "]), embeds=True)


def test_the_end_that_is_cut_off_is_left_or_right() -> None:
    assert truncation_side({}, Path()) == "right"
    assert truncation_side({"truncation_side": "left"}, Path()) == "left"
    with pytest.raises(ModelNotSupported, match="truncation_side is 'up'"):
        truncation_side({"truncation_side": "up"}, Path())


def test_matryoshka_sizes_are_a_list_of_sizes() -> None:
    assert matryoshka_of({}, Path()) == ()
    assert matryoshka_of({"matryoshka_dimensions": [16, 8]}, Path()) == (16, 8)
    with pytest.raises(ModelNotSupported, match="matryoshka_dimensions is not a list of sizes"):
        matryoshka_of({"matryoshka_dimensions": [0]}, Path())
