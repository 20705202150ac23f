"""What the files of an image model say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.repository.json_files import ModelNotSupported
from service.repository.resize import ProcessorSpec, Resize, read_processor
from service.repository.vision import image_task, read_vision_spec


def folder(place: Path, config: dict[str, Any], **processor: Any) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    (place / "preprocessor_config.json").write_text(json.dumps(processor))
    (place / "tokenizer.json").write_text("{}")
    return place


VIT = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
CLIP = {"architectures": ["CLIPModel"], "model_type": "clip"}


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (VIT, "image-classify"),
        ({"architectures": ["DeiTForImageClassificationWithTeacher"]}, "image-classify"),
        (CLIP, "image-embed"),
        ({"architectures": ["Siglip2Model"], "model_type": "siglip2"}, "image-embed"),
        ({"architectures": ["CLIPVisionModel"], "model_type": "clip"}, None),
        ({"architectures": ["CLIPTextModelWithProjection"], "model_type": "clip"}, None),
        ({"architectures": ["ViTModel"], "model_type": "vit"}, None),
        ({"architectures": ["BertModel"], "model_type": "bert"}, None),
        ({"architectures": ["BertForSequenceClassification"], "model_type": "bert"}, None),
        ({}, None),
    ],
)
def test_the_task_follows_the_architecture(
    tmp_path: Path, config: dict[str, Any], task: str | None
) -> None:
    place = folder(tmp_path, config)
    assert image_task(place, "auto") == task
    for wanted in ("image-classify", "image-embed"):
        if wanted == task:
            assert image_task(place, wanted) == task
        else:
            with pytest.raises(ModelNotSupported, match=f"BATCHER_TASK={wanted} needs"):
                image_task(place, wanted)
    if task is not None:
        with pytest.raises(ModelNotSupported, match=f"is for BATCHER_TASK={task}, not embed"):
            image_task(place, "embed")


def test_code_of_a_models_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported, match=r"/config\.json: its auto_map"):
        read_vision_spec(folder(tmp_path / "a", {**VIT, "auto_map": {"AutoModel": "m.M"}}))
    place = folder(tmp_path / "b", VIT, auto_map={"AutoImageProcessor": "m.P"})
    with pytest.raises(ModelNotSupported, match=r"preprocessor_config\.json: its auto_map"):
        read_vision_spec(place)


def test_a_folder_without_an_image_processor_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path, VIT)
    (place / "preprocessor_config.json").unlink()
    with pytest.raises(ModelNotSupported, match=r"no preprocessor_config\.json"):
        read_vision_spec(place)


@pytest.mark.parametrize(
    ("fields", "labels", "activation"),
    [
        ({}, 2, "softmax"),
        ({"id2label": {"0": "cat"}}, 1, "sigmoid"),
        ({"problem_type": "regression"}, 2, "none"),
        ({"problem_type": "multi_label_classification"}, 2, "sigmoid"),
    ],
)
def test_the_activation_is_the_pipelines(
    tmp_path: Path, fields: dict[str, Any], labels: int, activation: str
) -> None:
    spec = read_vision_spec(folder(tmp_path, {**VIT, **fields}))
    assert (len(spec.labels), spec.activation) == (labels, activation)


def test_an_image_costs_its_patches(tmp_path: Path) -> None:
    of_patches = {**VIT, "image_size": 224, "patch_size": 16}
    assert read_vision_spec(folder(tmp_path / "a", of_patches)).cost == 197
    assert read_vision_spec(folder(tmp_path / "b", VIT)).cost == 1


def sentence_folder(place: Path, *kinds: str, **config: Any) -> Path:
    inner = {"0_CLIPModel": kinds[0] == "CLIPModel"}
    first = next((name for name, has_folder in inner.items() if has_folder), "")
    folder(place / first, {**CLIP, **config})
    modules = [
        {"idx": n, "name": str(n), "path": first if n == 0 else f"{n}_{kind}", "type": f"st.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    (place / "modules.json").write_text(json.dumps(modules))
    return place


@pytest.mark.parametrize("kinds", [("CLIPModel",), ("Transformer",), ("Transformer", "Normalize")])
def test_a_folder_of_sentence_transformers(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    spec = read_vision_spec(sentence_folder(tmp_path, *kinds))
    assert spec.task == "image-embed"
    assert spec.folder == (tmp_path / "0_CLIPModel" if kinds[0] == "CLIPModel" else tmp_path)
    assert spec.normalize == (kinds[-1] == "Normalize")


def test_a_chain_that_is_not_known_is_refused(tmp_path: Path) -> None:
    place = sentence_folder(tmp_path, "CLIPModel", "Dense")
    (place / "1_Dense").mkdir(exist_ok=True)
    with pytest.raises(ModelNotSupported, match=r"modules\.json: CLIPModel → Dense"):
        image_task(place, "auto")


@pytest.mark.parametrize(
    ("kind", "config", "says"),
    [
        ("clip", {"do_lower_case": True}, "do_lower_case"),
        ("clip", {"modality_config": {"text": {"method": "forward"}}}, "modality_config"),
        ("clip", {"processing_kwargs": {"image": {"do_resize": False}}}, "processing_kwargs"),
        ("clip", {"processing_kwargs": {"text": {"padding": "max_length"}}}, "longest of a batch"),
        ("siglip", {}, r"padded to max_length \(64\)"),
        ("siglip", {"processing_kwargs": {"text": {"padding": "max_length"}}}, "as it was trained"),
    ],
)
def test_what_sentence_transformers_would_do_otherwise_is_refused(
    tmp_path: Path, kind: str, config: dict[str, Any], says: str
) -> None:
    """Of SigLIP it pads texts to the longest of their batch, on which their vectors then depend."""
    model = {"architectures": [f"{kind.title()}Model"], "model_type": kind}
    place = sentence_folder(tmp_path, "Transformer", **model)
    (place / "sentence_bert_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelNotSupported, match=says):
        read_vision_spec(place)


def test_the_limits_of_a_text(tmp_path: Path) -> None:
    place = sentence_folder(tmp_path / "a", "Transformer")
    (place / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    plain = folder(tmp_path / "b", {"architectures": ["SiglipModel"], "model_type": "siglip"})
    padded = {"text": {"padding": "max_length", "max_length": 64}}
    siglip = sentence_folder(
        tmp_path / "c", "Transformer", architectures=["SiglipModel"], model_type="siglip"
    )
    (siglip / "sentence_bert_config.json").write_text(json.dumps({"processing_kwargs": padded}))
    for each, limit, padded_to in ((place, 20, None), (plain, 64, 64), (siglip, 64, 64)):
        spec = read_vision_spec(each)
        assert (spec.text_limit, spec.padded_to) == (limit, padded_to)


VIT_PROCESSOR = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "resample": 2}


@pytest.mark.parametrize(
    ("fields", "resize"),
    [
        ({"size": {"height": 8, "width": 9}}, Resize((8, 9), 2)),
        ({"size": 8}, Resize((8, 8), 2)),
        ({"size": {"shortest_edge": 8}}, Resize(8, 2)),
        ({"size": 8, "image_processor_type": "CLIPImageProcessorFast"}, Resize(8, 2)),
        ({"size": {"shortest_edge": 8, "longest_edge": 20}}, None),
        ({"size": {"height": 8, "width": 9}, "resample": None}, None),
        ({"size": {"height": 8, "width": 9}, "image_processor_type": "OwnImageProcessor"}, None),
        ({"size": {"shortest_edge": 384}, "image_processor_type": "ConvNextImageProcessor"}, None),
        (
            {
                "size": {"shortest_edge": 56},
                "image_processor_type": "ConvNextImageProcessor",
                "crop_pct": 0.875,
            },
            Resize(64, 2),
        ),
    ],
)
def test_a_plain_resize_is_known(
    tmp_path: Path, fields: dict[str, Any], resize: Resize | None
) -> None:
    if fields.get("size") == {"shortest_edge": 384}:
        resize = Resize((384, 384), 2)
    place = folder(tmp_path, VIT, **VIT_PROCESSOR | fields)
    assert read_processor(place).resize == resize


def test_a_processor_within_another_file(tmp_path: Path) -> None:
    place = folder(tmp_path, VIT)
    inner = {**VIT_PROCESSOR, "size": {"shortest_edge": 8}}
    (place / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    assert read_processor(place) == ProcessorSpec(Resize(8, 2), 8)


def test_a_resize_keeps_the_proportions() -> None:
    assert Resize(32, 2).target(64, 100) == (32, 50)
    assert Resize(32, 2).target(100, 64) == (50, 32)
    assert Resize((5, 7), 2).target(100, 64) == (7, 5)
    assert ProcessorSpec() == ProcessorSpec(None, None)
