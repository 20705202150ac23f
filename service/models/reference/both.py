"""The texts of a model of images and texts, as transformers reads them: tokenizer and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from service.models.reference.checks import check_tokens, check_weights, serialised, without_empty
from service.models.reference.common import common_fields
from service.models.reference.limits import fitting, limit_of
from service.models.reference.texts import ODD, SENTENCES
from service.models.rows import IDS
from service.repository.folder import ModelFolder
from service.repository.sentences import read_prompts
from service.repository.spec import EncoderSpec
from service.repository.vision import read_vision_spec


def texts_of(read: ModelFolder, made: Path) -> tuple[EncoderSpec, str]:
    """How a text becomes tokens, and the tokenizer. Raises ModelNotSupported."""
    check_weights(read, transformers.AutoModel)
    model = transformers.AutoModel.from_pretrained(read.encoder, local_files_only=True).eval()
    reference = transformers.AutoTokenizer.from_pretrained(read.encoder, local_files_only=True)
    own = model.config.text_config
    limits = (
        getattr(own, "max_position_embeddings", None),
        read_vision_spec(read.whole, "image-embed").text_limit,
    )
    prompts, default = read_prompts(read.whole, embeds=True)
    spec = EncoderSpec(
        **common_fields(read, reference, prompts, default),
        pooling="none",
        normalize=False,
        max_length=min(
            limit_of(read, reference.model_max_length, reference), *(n for n in limits if n)
        ),
        dimension=_features(model, np.array([1, 2], np.int32)).shape[1],
        vocab_size=own.vocab_size,
        task=read.task,
        source="architectures in config.json",
    )
    spec = fitting(spec, lambda ids: _features(model, ids))
    tokenizer = serialised(reference, read)
    texts = [*SENTENCES, *ODD]
    ids = [
        np.array(reference(text, truncation=True, max_length=spec.max_length)[IDS], np.int32)
        for text in texts
    ]
    check_tokens(spec, tokenizer, made, *without_empty(texts, ids))
    return spec, tokenizer


@torch.inference_mode()
def _features(model: Any, ids: Any) -> torch.Tensor:
    output = model.get_text_features(input_ids=torch.from_numpy(ids)[None].long())
    features: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return features
