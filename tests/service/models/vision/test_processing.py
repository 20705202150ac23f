"""Whatever an image processor's files legally say: what a frontend prepares becomes the tensors
that transformers makes of the image itself."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from batcher import InvalidPayload
from service.models.vision.processing import Processor, alike
from service.repository.vision import read_vision_spec
from service.tasks.decoding import ImageDecoder
from tests.conftest import EFFORT
from tests.service.tiny_images import encoded, picture

EDGES = st.integers(8, 48)
SQUARES = st.builds(lambda height, width: {"height": height, "width": width}, EDGES, EDGES)
SHORT = st.builds(lambda edge: {"shortest_edge": edge}, EDGES)
COLOURS = st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3)
COMMON = {
    "do_resize": st.booleans(),
    "resample": st.integers(0, 5),
    "do_rescale": st.booleans(),
    "rescale_factor": st.sampled_from([1 / 255, 0.01]),
    "do_normalize": st.booleans(),
    "image_mean": COLOURS,
    "image_std": COLOURS,
}
CROPS = {"do_center_crop": st.booleans(), "crop_size": SQUARES | EDGES}
PLAIN = st.fixed_dictionaries(
    {"image_processor_type": st.sampled_from(["ViT", "DeiT", "CLIP", "Siglip", "ChineseCLIP"])},
    optional={**COMMON, **CROPS, "size": SQUARES | SHORT | EDGES},
)
CONVNEXT = st.fixed_dictionaries(
    {"image_processor_type": st.just("ConvNext")},
    optional={**COMMON, "size": SHORT, "crop_pct": st.floats(0.5, 1)},
)
PICTURES = st.builds(picture, st.integers(1, 90), st.integers(1, 90), st.just("RGB"), st.just(3))


@settings(max_examples=30 * EFFORT)
@given(
    fields=PLAIN | CONVNEXT,
    suffix=st.sampled_from(["ImageProcessor", "ImageProcessorFast"]),
    nested=st.booleans(),
    image=PICTURES,
)
def test_any_legal_file(fields: dict[str, Any], suffix: str, nested: bool, image: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
        (folder / "config.json").write_text(json.dumps({**config, "image_size": 32}))
        content = {**fields, "image_processor_type": fields["image_processor_type"] + suffix}
        name, written = "preprocessor_config.json", content
        if nested:
            name, written = "processor_config.json", {"image_processor": content}
        (folder / name).write_text(json.dumps(written))
        reference = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        spec = read_vision_spec(folder)
        payload = ImageDecoder(10**7, 1, spec.processor).prepare_image(encoded(image)).payload
        made = Processor(spec).process(payload)
        try:
            expected = reference(images=image, return_tensors="pt")
        except ValueError:
            assert isinstance(made, InvalidPayload)
            return
        assert not isinstance(made, InvalidPayload)
        assert made.keys() == expected.keys()
        for each in expected:
            assert torch.equal(made[each], expected[each])


def test_images_of_one_shape_are_one_batch() -> None:
    def of(size: int, value: float) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.full((1, 3, size, size), value)}

    batches = list(alike([(0, of(4, 0)), (2, of(8, 2)), (3, of(4, 3)), (7, of(8, 7))]))
    assert [places for places, _ in batches] == [[0, 3], [2, 7]]
    for places, batch in batches:
        assert batch["pixel_values"][:, 0, 0, 0].tolist() == places
