"""Models that see, tiny and with random weights: classifiers of images, and models of images and
texts, with the image processors that they come with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.models import tokenizers
from loadtests.models.folder import Folder

EDGE = 32  # pixels, of every model here
HIDDEN = 32
POSITIONS = 24  # tokens of a text

_SQUARE = {"size": {"height": EDGE, "width": EDGE}}
_SHORT = {"size": {"shortest_edge": EDGE}}
_CROPPED = {**_SHORT, "crop_size": {"height": EDGE, "width": EDGE}}
# What each image processor does, unless the folder says otherwise.
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "ViT": _SQUARE,
    "DeiT": {"size": {"height": 40, "width": 40}, "crop_size": {"height": EDGE, "width": EDGE}},
    "ConvNext": _SHORT,
    "Bit": _CROPPED,
    "Beit": _SQUARE,
    "CLIP": _CROPPED,
    "ChineseCLIP": {"size": {"height": 40, "width": 40}, "crop_size": _CROPPED["crop_size"]},
    "EfficientNet": _SQUARE,
    "Levit": _CROPPED,
    "MobileNetV2": _CROPPED,
    "MobileViT": _CROPPED,
    "PoolFormer": _CROPPED,
    "Pvt": _SQUARE,
    "Segformer": _SQUARE,
    "Siglip": _SQUARE,
    "Siglip2": {"patch_size": 8, "max_num_patches": 16},
}


def _of_patches(**fields: Any) -> dict[str, Any]:
    shape = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "image_size": EDGE,
        "patch_size": 8,
        "initializer_range": 0.3,
    }
    return shape | fields


@dataclass(frozen=True)
class Classifier:
    processor: str
    shape: Mapping[str, Any]


_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": EDGE}
_CONVNEXT = {**_STAGES, "initializer_range": 0.3}
_SWIN = {
    "image_size": EDGE,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "initializer_range": 0.3,
}
_PYRAMID = {
    "image_size": EDGE,
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "num_encoder_blocks": 2,
    "patch_sizes": [4, 2],
    "strides": [4, 2],
    "sequence_reduction_ratios": [2, 1],
    "sr_ratios": [2, 1],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "initializer_range": 0.3,
}
CLASSIFIERS: Mapping[str, Classifier] = {
    "vit": Classifier("ViT", _of_patches()),
    "deit": Classifier("DeiT", _of_patches(architectures=["DeiTForImageClassification"])),
    "beit": Classifier("Beit", _of_patches()),
    "data2vec-vision": Classifier("Beit", _of_patches()),
    "dinov2": Classifier("Bit", _of_patches()),
    "dinov2_with_registers": Classifier("Bit", _of_patches()),
    "vit_msn": Classifier("ViT", _of_patches()),
    "ijepa": Classifier("ViT", _of_patches()),
    "convnext": Classifier("ConvNext", _CONVNEXT),
    "convnextv2": Classifier("ConvNext", _CONVNEXT),
    "resnet": Classifier("ConvNext", {**_STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "regnet": Classifier("ConvNext", {**_STAGES, "embedding_size": 8, "groups_width": 8}),
    "bit": Classifier("Bit", {**_STAGES, "embedding_size": 8, "num_groups": 4}),
    "swin": Classifier("ViT", _SWIN),
    "swinv2": Classifier("ViT", _SWIN),
    "segformer": Classifier("Segformer", _PYRAMID),
    "pvt_v2": Classifier("Pvt", _PYRAMID),
    "mobilenet_v2": Classifier("MobileNetV2", {"image_size": EDGE, "depth_multiplier": 0.35}),
    "poolformer": Classifier(
        "PoolFormer",
        {
            "hidden_sizes": [16, 32],
            "depths": [1, 1],
            "num_encoder_blocks": 2,
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "padding": [2, 1],
            "mlp_ratio": 2.0,
        },
    ),
}


@dataclass(frozen=True)
class Family:
    """Of models of images and texts."""

    processor: str
    positions: int = POSITIONS
    padded: bool = False  # every text, to all of them
    has_mask: bool = True
    text: Mapping[str, Any] = field(default_factory=dict)  # of the config, as is the rest
    vision: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=lambda: {"projection_dim": 24})


_EFFICIENT = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 16}
FAMILIES: Mapping[str, Family] = {
    "clip": Family("CLIP"),
    "siglip": Family("Siglip", 64, padded=True, has_mask=False),
    "chinese_clip": Family("ChineseCLIP", text={"type_vocab_size": 2}),
    "altclip": Family("CLIP", text={"project_dim": 24}),
    "metaclip_2": Family("CLIP"),
    "align": Family("EfficientNet", vision=_EFFICIENT, options={"projection_dim": HIDDEN}),
}
KINDS: Mapping[str, tuple[str, ...]] = {
    "image-classify": tuple(CLASSIFIERS),
    "image-embed": tuple(FAMILIES),
}


def make(folder: Folder, at: Path) -> Path:
    """At `at`, which is made. A step of sentence-transformers makes a folder of theirs of it."""
    import torch

    torch.manual_seed(11)
    model = _classifier(folder) if folder.task == "image-classify" else _both(folder, at / "plain")
    plain, made = at / "plain", at / "model"
    shards = {"max_shard_size": "20KB"} if folder.weights == "shards" else {}
    model.eval().to(getattr(torch, folder.dtype)).save_pretrained(plain, **shards)
    if folder.weights == "bin":
        torch.save(model.state_dict(), plain / "pytorch_model.bin")
        (plain / "model.safetensors").unlink()
    _processor(folder, plain)
    if not folder.steps:
        return plain
    if folder.legacy:  # as versions before 5.4 of the library wrote it
        plain.rename(made.parent / "0_CLIPModel")
        made.mkdir()
        (made.parent / "0_CLIPModel").rename(made / "0_CLIPModel")
        kind = "sentence_transformers.models.CLIPModel"
        chain = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}]
        (made / "modules.json").write_text(json.dumps(chain))
        return made
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer

    steps: list[Any] = [Transformer(str(plain))]
    steps += [Normalize() for step in folder.steps if step.kind == "Normalize"]
    SentenceTransformer(modules=steps, device="cpu").save(str(made), create_model_card=False)
    return made


def _classifier(folder: Folder) -> Any:
    import transformers

    labels = folder.labels or ("LABEL_0", "LABEL_1", "LABEL_2")
    about: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: place for place, label in enumerate(labels)},
    }
    if folder.problem is not None:
        about["problem_type"] = folder.problem
    shape = dict(CLASSIFIERS[folder.kind].shape)
    config = transformers.AutoConfig.for_model(folder.kind, **(shape | about | dict(folder.config)))
    return _apart(transformers.AutoModelForImageClassification.from_config(config))


def _apart(model: Any) -> Any:
    """With logits far enough from each other to tell two images by."""
    import torch

    head = [each for each in model.modules() if isinstance(each, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.weight.normal_(0, 1)
    return model


def _both(folder: Folder, at: Path) -> Any:
    import transformers

    family = FAMILIES[folder.kind]
    of_text = tokenizers.make("bert", cased=folder.cased)
    given = dict(tokenizers.SPECIAL["bert"])
    limit = family.positions - 2 * (folder.kind == "altclip")
    # The last token of a text is what the CLIP kind reads its vector at.
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=of_text,
        model_input_names=["input_ids", *["attention_mask"] * family.has_mask],
        model_max_length=limit if folder.model_max_length is None else folder.model_max_length,
        truncation_side=folder.truncation_side,
        bos_token=given["cls_token"],
        eos_token=given["sep_token"],
        **given,
    )
    tokenizer.save_pretrained(at)
    text = _of_patches(
        vocab_size=len(tokenizer),
        max_position_embeddings=family.positions,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    del text["image_size"], text["patch_size"]
    config = transformers.AutoConfig.for_model(
        folder.kind,
        text_config=text | dict(family.text),
        vision_config=_of_patches() | dict(family.vision),
        **family.options,
    )
    return transformers.AutoModel.from_config(config)


def processor_of(kind: str) -> str:
    return CLASSIFIERS[kind].processor if kind in CLASSIFIERS else FAMILIES[kind].processor


def _processor(folder: Folder, at: Path) -> None:
    import transformers

    name = processor_of(folder.kind)
    made = getattr(transformers, f"{name}ImageProcessorPil")
    made(**{**PROCESSORS[name], **folder.processor}).save_pretrained(at)
    file = at / "preprocessor_config.json"
    said = json.loads(file.read_text())
    said["image_processor_type"] = f"{name}ImageProcessor{'Fast' if folder.fast else ''}"
    if folder.nested:
        file.unlink()
        file, said = at / "processor_config.json", {"image_processor": said}
    file.write_text(json.dumps(said))
