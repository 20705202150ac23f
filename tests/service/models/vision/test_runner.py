"""Image models against the pipelines and models of transformers: alone, and among images of other
sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from PIL import Image

from batcher import InvalidPayload
from service.models.backends import BackendNotAvailable
from service.models.backends.accuracy import TooInaccurate
from service.models.create import create_runner
from service.models.vision.runner import VisionRunner
from service.repository.folder import Wanted
from service.repository.json_files import ModelNotSupported
from service.repository.vision import find_vision_spec, read_vision_spec
from service.tasks.decoding import ImageDecoder
from service.tasks.text import TextTokenizer
from tests.service.configs import runner_config
from tests.service.tiny_images import (
    CLASSIFIERS,
    FAMILIES,
    PICTURES,
    encoded,
    make_image_classifier,
    make_image_embedder,
)

TEXTS = ["one", "two three four", "", "one two five four three two one four"]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def started(folder: Path, **config: Any) -> VisionRunner:
    given = {"dtype": "float32", "threads": 1} | config
    runner = create_runner("transformers", runner_config(str(folder), device="cpu", **given))
    assert isinstance(runner, VisionRunner)
    runner.info = runner.warm_up()  # type: ignore[attr-defined]  # for the test to look at
    return runner


def prepared(folder: Path, pictures: list[Image.Image] = PICTURES) -> list[Any]:
    """As a frontend makes them."""
    spec = read_vision_spec(folder)
    decoder = ImageDecoder(10_000_000, spec.cost, spec.processor)
    return [decoder.prepare_image(encoded(each)).payload for each in pictures]


def tokenizer_of(folder: Path) -> TextTokenizer:
    """A frontend's."""
    spec = find_vision_spec(folder, Wanted(), "", print)
    assert spec.text is not None
    return TextTokenizer.load(spec.text)


def expected_logits(folder: Path, pictures: list[Image.Image] = PICTURES) -> NDArray[np.float32]:
    process = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        rows = [model(**process(images=each, return_tensors="pt")).logits[0] for each in pictures]
    return torch.stack(rows).numpy()


def with_lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """As a head answers vectors: of length 1, with the length that each had behind it."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.concatenate([vectors / lengths, lengths], axis=1)


def agrees(runner: VisionRunner, inputs: list[Any], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(np.stack(list(runner.run(inputs))), expected, **CLOSE)
    alone = np.stack([runner.run([one])[0] for one in inputs])
    np.testing.assert_allclose(alone, expected, **CLOSE)
    backwards = np.stack(list(runner.run(inputs[::-1])))
    np.testing.assert_allclose(backwards, expected[::-1], **CLOSE)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_logits_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    folder = make_image_classifier(tmp_path, kind)
    runner = started(folder)
    expected = expected_logits(folder)
    assert np.ptp(expected, axis=0).min() > 1e-3, "the images are told apart"
    agrees(runner, prepared(folder), expected)


ODD: Mapping[str, tuple[str, dict[str, Any]]] = {
    "no rescale": ("vit", {"do_rescale": False}),
    "another factor": ("vit", {"rescale_factor": 0.01}),
    "no normalize": ("vit", {"do_normalize": False}),
    "another mean": ("vit", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]}),
    "another filter": ("vit", {"resample": 0}),
    "the shorter edge, cropped": (
        "vit",
        {
            "size": {"shortest_edge": 48},
            "do_center_crop": True,
            "crop_size": {"height": 32, "width": 32},
        },
    ),
    "no crop of a square": ("deit", {"do_center_crop": False, "size": {"height": 32, "width": 32}}),
    "a crop larger than the image": ("deit", {"size": {"height": 20, "width": 24}}),
    "no resize, cropped": ("deit", {"do_resize": False}),
    "warped": ("convnext", {"size": {"shortest_edge": 384}}),
    "another share": ("convnext", {"crop_pct": 0.5}),
    "any size": ("resnet", {"do_resize": False}),
}


@pytest.mark.parametrize(("kind", "processor"), ODD.values(), ids=ODD)
def test_an_odd_but_legal_image_processor(
    tmp_path: Path, kind: str, processor: dict[str, Any]
) -> None:
    folder = make_image_classifier(tmp_path, kind, processor=processor)
    pictures = PICTURES[2:] if processor.get("do_resize") is False else PICTURES
    agrees(started(folder), prepared(folder, pictures), expected_logits(folder, pictures))


@pytest.mark.parametrize("kind", sorted(FAMILIES.keys() - {"siglip2"}))
def test_vectors_of_images_and_texts_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    folder = make_image_embedder(tmp_path, kind)
    runner = started(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    process = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenize = transformers.AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 64} if FAMILIES[kind].padded else {}
    with torch.inference_mode():
        images = [
            model.get_image_features(**process(images=each, return_tensors="pt")).pooler_output
            for each in PICTURES
        ]
        texts = [
            model.get_text_features(**tokenize(each, return_tensors="pt", **padding)).pooler_output
            for each in TEXTS
        ]
    tokenizer = tokenizer_of(folder)
    ids = [tokenizer.prepare(each).payload for each in TEXTS]
    inputs = [each for pair in zip(prepared(folder), ids, strict=False) for each in pair]
    pairs = [each for pair in zip(images, texts, strict=False) for each in pair]
    agrees(runner, inputs, with_lengths(torch.cat(pairs).numpy()))
    info = runner.info  # type: ignore[attr-defined]
    assert info["dimension"] == images[0].shape[1]


def test_a_tokenizer_is_what_the_reference_makes_of_its_files(tmp_path: Path) -> None:
    """SigLIP 2's makes every text lower-case, of which tokenizer.json says nothing."""
    folder = make_image_embedder(tmp_path, "siglip2")
    upper, lower = (tokenizer_of(folder).prepare(text).payload for text in ("ONE Two", "one two"))
    np.testing.assert_array_equal(upper, lower)


def test_an_image_that_the_model_does_not_take_is_its_callers_fault(tmp_path: Path) -> None:
    folder = make_image_classifier(tmp_path, processor={"do_resize": False})
    runner = started(folder)
    good, bad, *_ = prepared(folder, [PICTURES[0], PICTURES[2]])
    results = runner.run([good, bad, good])
    assert isinstance(results[1], InvalidPayload)
    assert "50 x 20 pixels" in str(results[1])
    np.testing.assert_allclose(results[0], expected_logits(folder, PICTURES[:1])[0], **CLOSE)
    np.testing.assert_array_equal(results[0], results[2])


def test_a_frontends_resize_that_differs_from_the_processors_is_noticed(tmp_path: Path) -> None:
    import dataclasses

    from service.models.vision.processing import Processor
    from service.repository.resize import ProcessorSpec, Resize

    spec = read_vision_spec(make_image_classifier(tmp_path))
    wrong = ProcessorSpec(Resize((32, 32), Image.Resampling.NEAREST))
    with pytest.raises(ModelNotSupported, match="does not resize"):
        Processor(dataclasses.replace(spec, processor=wrong))


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_image_classifier(tmp_path)
    weights = load_file(folder / "model.safetensors")
    kept = {name: each for name, each in weights.items() if not name.startswith("classifier.")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelNotSupported, match=r"weights are missing, classifier\.bias first"):
        started(folder)


def test_weights_of_another_shape_are_an_error(tmp_path: Path) -> None:
    folder = make_image_classifier(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(ModelNotSupported, match=r"another shape .*\[64\], not \[48\]"):
        started(folder)


def test_damaged_weights_are_an_error(tmp_path: Path) -> None:
    folder = make_image_classifier(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(ModelNotSupported, match=r"model\.safetensors is damaged"):
        started(folder)


def test_a_reduced_precision_is_held_to_float32(tmp_path: Path) -> None:
    folder = make_image_classifier(tmp_path)
    runner = started(folder, dtype="bfloat16")
    info = runner.info  # type: ignore[attr-defined]
    assert info["dtype"] == "bfloat16"
    assert info["agreement"] >= 0.95
    got = np.stack(list(runner.run(prepared(folder))))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected_logits(folder), atol=0.1)
    assert started(folder, dtype="auto").info["dtype"] == "float32"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
def test_a_reduced_precision_of_a_model_without_patches(tmp_path: Path, kind: str) -> None:
    folder = make_image_classifier(tmp_path, kind)
    runner = started(folder, dtype="bfloat16")
    got = np.stack(list(runner.run(prepared(folder))))
    np.testing.assert_allclose(got, expected_logits(folder), atol=0.1)


def changed_weights(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_precision_that_overflows_is_refused(tmp_path: Path) -> None:
    folder = make_image_classifier(tmp_path)
    changed_weights(folder, "classifier.weight", lambda weights: weights * 1e5)
    assert started(folder).info["dtype"] == "float32"  # type: ignore[attr-defined]
    with pytest.raises(TooInaccurate, match="set BATCHER_DTYPE=float32"):
        started(folder, dtype="float16")


def test_nan_in_the_weights_is_refused(tmp_path: Path) -> None:
    folder = make_image_classifier(tmp_path)
    changed_weights(folder, "classifier.weight", lambda weights: weights * float("nan"))
    with pytest.raises(ModelNotSupported, match="not finite"):
        started(folder)


def test_labels_that_are_not_as_many_as_the_logits_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of models whose config.json names them in another way."""
    monkeypatch.setattr("service.repository.vision.labels_of", lambda config, file: ("a", "b"))
    with pytest.raises(ModelNotSupported, match="has 2 labels, and the model 3"):
        started(make_image_classifier(tmp_path))


def test_how_alike_two_vectors_are_is_told_unrounded(tmp_path: Path) -> None:
    folder = make_image_embedder(tmp_path)
    changed_weights(folder, "logit_scale", lambda scale: scale * 0 + 4.6052)
    info = started(folder, dtype="bfloat16").info  # type: ignore[attr-defined]
    assert info["logit_scale"] == pytest.approx(np.exp(4.6052), rel=1e-6)
    assert info["cosine"] >= 0.999


@pytest.mark.parametrize("config", [{"backend": "onnx"}, {"compile": True}])
def test_what_image_models_cannot_have_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(BackendNotAvailable, match="not for image models"):
        started(make_image_classifier(tmp_path), **config)


def test_a_profile_is_measured(tmp_path: Path) -> None:
    info = started(make_image_classifier(tmp_path), profile=True).info  # type: ignore[attr-defined]
    assert info["profile_source"] == "measured"
    assert {tokens / size for size, tokens, _ in info["profile"]} == {17.0}
    assert info["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert info["source"] == "architectures in config.json"
    assert info["reference_distance"] == 0.0


def sentence_folder(place: Path, layout: str) -> Path:
    """As sentence-transformers writes it, now and before 5.4."""
    library = pytest.importorskip("sentence_transformers")
    modules = library.sentence_transformer.modules
    if layout == "old":
        make_image_embedder(place / "0_CLIPModel")
        kind = "sentence_transformers.models.CLIPModel"
        chain = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}]
        (place / "modules.json").write_text(json.dumps(chain))
        return place
    chain = [modules.Transformer(str(make_image_embedder(place / "plain")))]
    if layout == "normalized":
        chain.append(modules.Normalize())
    made = library.SentenceTransformer(modules=chain, device="cpu")
    made.save(str(place / "full"), create_model_card=False)
    return place / "full"


@pytest.mark.parametrize("layout", ["old", "new", "normalized"])
def test_a_folder_of_sentence_transformers_gives_its_vectors(tmp_path: Path, layout: str) -> None:
    folder = sentence_folder(tmp_path, layout)
    library = pytest.importorskip("sentence_transformers")
    made = library.SentenceTransformer(str(folder), device="cpu")
    runner = started(folder)
    tokenizer = tokenizer_of(folder)
    inputs = [*prepared(folder), *(tokenizer.prepare(t).payload for t in TEXTS)]
    unscaled = library.SentenceTransformer(modules=[made[0]], device="cpu")
    expected = np.concatenate([unscaled.encode(PICTURES), unscaled.encode(TEXTS)])
    agrees(runner, inputs, with_lengths(expected))
    scaled = np.concatenate([made.encode(PICTURES), made.encode(TEXTS)])
    if layout == "normalized":
        np.testing.assert_allclose(np.stack(runner.run(inputs))[:, :-1], scaled, **CLOSE)
