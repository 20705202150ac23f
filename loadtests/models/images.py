"""Small models that see, with random weights, as transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from loadtests.models import tokenizers

_EDGE = 32  # pixels
_POSITIONS = 32  # tokens of a text
_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}
_IMAGE = {"image_size": _EDGE, "patch_size": 8}

Sees = Literal["image-classify", "image-embed"]


def make(task: Sees, at: Path) -> Path:
    """In the folder `at`, which is there."""
    import torch
    import transformers

    torch.manual_seed(11)
    if task == "image-classify":
        config = transformers.ViTConfig(num_labels=3, **_SHAPE, **_IMAGE)
        transformers.ViTForImageClassification(config).eval().save_pretrained(at)
        size = {"height": _EDGE, "width": _EDGE}
        transformers.ViTImageProcessorPil(size=size).save_pretrained(at)
        return at
    words = tokenizers.make("bert")
    ids = {name: words.token_to_id(token) for name, token in tokenizers.SPECIAL["bert"].items()}
    text = {
        "vocab_size": words.get_vocab_size(),
        "max_position_embeddings": _POSITIONS,
        "pad_token_id": ids["pad_token"],
        "bos_token_id": ids["cls_token"],
        "eos_token_id": ids["sep_token"],
    }
    both = transformers.CLIPConfig(
        text_config=_SHAPE | text, vision_config=_SHAPE | _IMAGE, projection_dim=24
    )
    transformers.CLIPModel(both).eval().save_pretrained(at)
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": _EDGE}, crop_size={"height": _EDGE, "width": _EDGE}
    ).save_pretrained(at)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=_POSITIONS,
        **tokenizers.SPECIAL["bert"],
    ).save_pretrained(at)
    return at
