"""The fields of a spec that are found alike for every task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.repository.folder import ModelFolder
from service.repository.sentences import truncation_side


def common_fields(
    read: ModelFolder, tokenizer: Any, prompts: Mapping[str, str], default: str | None
) -> dict[str, Any]:
    """`default`: the name of the prompt that goes before every text. Raises ModelNotSupported."""
    side = {"truncation_side": tokenizer.truncation_side}
    return {
        "folder": read.encoder,
        "whole": read.whole,
        "pad_id": tokenizer.pad_token_id or 0,
        "prompt": "" if default is None else prompts[default],
        "prompts": prompts,
        "default_prompt_name": default,
        "truncation_side": truncation_side(side, read.encoder),
    }
