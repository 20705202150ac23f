"""Tiny models that see, with random weights; and small images of every kind."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.service.tiny import WORDS

_EDGE = 32  # pixels, of every model here


def _vit_shape(**fields: Any) -> dict[str, Any]:
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "image_size": _EDGE,
        "patch_size": 8,
        "initializer_range": 0.3,
    }
    return shape | fields


_CONV = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": _EDGE}
CLASSIFIERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "vit": (_vit_shape(), "ViT"),
    "deit": (_vit_shape(architectures=["DeiTForImageClassification"]), "DeiT"),
    "convnext": ({**_CONV, "initializer_range": 0.3}, "ConvNext"),
    "resnet": ({**_CONV, "embedding_size": 8, "layer_type": "basic"}, "ConvNext"),
    "swin": (
        {
            "image_size": _EDGE,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
            "initializer_range": 0.3,
        },
        "ViT",
    ),
}
# What each image processor does, unless a test says otherwise.
_PROCESSORS: Mapping[str, dict[str, Any]] = {
    "ViT": {"size": {"height": _EDGE, "width": _EDGE}},
    "DeiT": {
        "size": {"height": 40, "width": 40},
        "crop_size": {"height": _EDGE, "width": _EDGE},
    },
    "ConvNext": {"size": {"shortest_edge": _EDGE}},
    "CLIP": {
        "size": {"shortest_edge": _EDGE},
        "crop_size": {"height": _EDGE, "width": _EDGE},
    },
    "ChineseCLIP": {
        "size": {"height": 40, "width": 40},
        "crop_size": {"height": _EDGE, "width": _EDGE},
    },
    "Siglip": {"size": {"height": _EDGE, "width": _EDGE}},
    "Siglip2": {"patch_size": 8, "max_num_patches": 16},
    "EfficientNet": {"size": {"height": _EDGE, "width": _EDGE}},
}


def make_image_classifier(
    folder: Path,
    kind: str = "vit",
    labels: int = 3,
    processor: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """As transformers writes it. `processor`: fields of the image processor's file; `fields`: of
    the config."""
    import torch
    import transformers

    torch.manual_seed(7)
    shape, kind_of_processor = CLASSIFIERS[kind]
    config = transformers.AutoConfig.for_model(kind, num_labels=labels, **shape, **fields)
    model = transformers.AutoModelForImageClassification.from_config(config).eval()
    model.save_pretrained(folder)
    save_processor(folder, kind_of_processor, processor)
    return folder


@dataclass(frozen=True)
class Family:
    processor: str  # its image processor
    positions: int = 16  # tokens of a text
    padded: bool = False  # every text, to all of them
    text: Mapping[str, Any] = field(default_factory=dict)  # of the config, as is the rest
    vision: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=lambda: {"projection_dim": 24})


_EFFICIENT = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 16}
FAMILIES: Mapping[str, Family] = {
    "clip": Family("CLIP"),
    "siglip": Family("Siglip", 64, padded=True),
    "siglip2": Family("Siglip2", 64, padded=True, vision={"num_patches": 16}, options={}),
    "chinese_clip": Family("ChineseCLIP", text={"type_vocab_size": 2}),
    "altclip": Family("CLIP", 18, text={"project_dim": 24}),
    "metaclip_2": Family("CLIP"),
    "align": Family("EfficientNet", vision=_EFFICIENT, options={"projection_dim": 32}),
}


def make_image_embedder(
    folder: Path, kind: str = "clip", processor: Mapping[str, Any] | None = None
) -> Path:
    """A model of images and texts, as transformers writes it."""
    import torch
    import transformers

    torch.manual_seed(7)
    family = FAMILIES[kind]
    text = _vit_shape(
        vocab_size=len(WORDS),
        max_position_embeddings=family.positions,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    del text["image_size"], text["patch_size"]
    config = transformers.AutoConfig.for_model(
        kind,
        text_config=text | dict(family.text),
        vision_config=_vit_shape() | dict(family.vision),
        **family.options,
    )
    transformers.AutoModel.from_config(config).eval().save_pretrained(folder)
    save_processor(folder, family.processor, processor)
    limit = family.positions - 2 * (kind == "altclip")
    _save_tokenizer(folder, limit, has_mask=kind != "siglip")
    return folder


def save_processor(folder: Path, kind: str, fields: Mapping[str, Any] | None = None) -> None:
    import transformers

    made = getattr(transformers, f"{kind}ImageProcessorPil")
    made(**{**_PROCESSORS[kind], **(fields or {})}).save_pretrained(folder)


def _save_tokenizer(folder: Path, positions: int, *, has_mask: bool) -> None:
    import transformers

    tokenizer = Tokenizer(models.WordLevel(dict(zip(WORDS, range(99), strict=False)), "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", *["attention_mask"] * has_mask],
        model_max_length=positions,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
    ).save_pretrained(folder)


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Noise on a slope, the same each time."""
    draw = np.random.default_rng(seed)
    slope = np.linspace(0, 190, height * width * 3).reshape(height, width, 3)
    pixels = (slope + draw.integers(0, 60, (height, width, 3))).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def drill(text: str) -> bytes:
    """An image that asks the simulated accelerator for a fault."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels.flat[: len(text)] = list(text.encode())
    return encoded(Image.fromarray(pixels))


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def data_uri(data: bytes, media: str = "image/png") -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


PICTURES = [
    picture(width, height, seed=seed)
    for seed, (width, height) in enumerate([(32, 32), (1, 1), (50, 20), (31, 97), (200, 160)])
]
