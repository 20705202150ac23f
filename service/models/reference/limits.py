"""How many tokens a model takes: what the reference cuts at, and has positions for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from service.repository.folder import ModelFolder
from service.repository.spec import UNLIMITED, EncoderSpec

_FEW = 1024  # tokens
_MOST_SPARE = 4  # positions that hold no token
# Their learned positions start behind the padding id: 514 positions hold 512 tokens.
_FROM_PADDING = frozenset(
    (
        *("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert"),
        *("mpnet", "longformer", "data2vec-text", "ibert", "xmod", "luke"),
    )
)


def limit_of(read: ModelFolder, stated: int | None, tokenizer: Any) -> int:
    """Tokens: what the reference cuts at; never more than the model has positions for."""
    config = read.config
    limits = [UNLIMITED, stated, config.get("max_position_embeddings"), config.get("n_positions")]
    if config.get("model_type") in _FROM_PADDING:
        pad = config.get("pad_token_id", tokenizer.pad_token_id) or 0
        limits = [*limits[:2], *(n - pad - 1 if isinstance(n, int) else n for n in limits[2:])]
    return min(int(n) for n in limits if isinstance(n, int | float) and n > 0)


def fitting(spec: EncoderSpec, run: Callable[[Any], object]) -> EncoderSpec:
    """With the most tokens that the model has positions for: some count them from 1 or 2, and the
    library fails at the limit that the files state. Looked for where positions are learned: where
    there are few."""
    limit = spec.max_length
    for length in range(limit, max(0, limit - _MOST_SPARE), -1) if limit <= _FEW else ():
        try:
            run(np.full(length, spec.vocab_size // 2, np.int32))
        except (IndexError, RuntimeError):
            continue
        return dataclasses.replace(spec, max_length=length)
    return spec
