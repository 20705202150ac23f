"""What the files of an image model say: of a classifier of images, or of a model that puts images
and texts in one space (the CLIP family). Reads JSON only: no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from service.repository.architecture import Activation, activation_of, architecture, labels_of
from service.repository.folder import Wanted, check_adapter, modules_of
from service.repository.inspection import Say, inspect
from service.repository.json_files import ModelNotSupported, part_of, read_object
from service.repository.resize import ProcessorSpec, read_processor
from service.repository.spec import EncoderSpec

ImageTask = Literal["image-classify", "image-embed"]
IMAGE_TASKS: tuple[str, ...] = get_args(ImageTask)

_CLASSIFIER = re.compile(r"^\w+ForImageClassification([A-Z]\w+)?$")  # DeiT's: …WithTeacher
_WHOLE = re.compile(r"^\w+(?<!Vision)(?<!Text)Model$")  # not one side of it


# Of models with `get_image_features` and `get_text_features`, by their types: the tokens that every
# text is padded to, as they were trained and the pipelines of transformers run them; None: as many
# as its batch needs.
_FAMILIES: Mapping[str, int | None] = {
    **dict.fromkeys(("align", "altclip", "chinese_clip", "clip", "metaclip_2"), None),
    **dict.fromkeys(("siglip", "siglip2"), 64),
}
_USUAL_SIZE = 224  # pixels, also of most models that take any size
_CHAIN = ("CLIPModel", "Transformer")  # a module of sentence-transformers that may be of a family


@dataclass(frozen=True, slots=True)
class VisionSpec:
    folder: Path  # holds config.json, the image processor's files and the weights
    task: ImageTask
    cost: int  # of an image, in tokens: its patches
    source: str  # which file says what the model is, for people
    image_size: int  # pixels of an edge, as the model has them; of no matter where it takes any
    processor: ProcessorSpec
    labels: tuple[str, ...] = ()  # of image-classify, by the place of their logit
    activation: Activation = "softmax"  # from logits to scores
    # Of image-embed:
    text: EncoderSpec | None = None  # how a text becomes tokens, by the reference; see find_spec()
    text_limit: int | None = None  # tokens, if the files of sentence-transformers name a limit
    padded_to: int | None = None  # tokens of every text; None: as many as its batch needs
    normalize: bool = False  # the folder says that its vectors have length 1


def image_task(folder: Path, wanted: str) -> ImageTask | None:
    """`wanted` as in BATCHER_TASK. None: the model is for texts, see folder.py. Raises
    ModelNotSupported where an image task is wanted that the model is not for."""
    place, _ = _place(folder)
    file = place / "config.json"
    config = read_object(file, optional=True)
    name = architecture(config)
    found: ImageTask | None = None
    if _CLASSIFIER.match(name):
        found = "image-classify"
    elif str(config.get("model_type")) in _FAMILIES and _WHOLE.match(name):
        found = "image-embed"
    if wanted in IMAGE_TASKS and wanted != found:
        needs = {
            "image-classify": "an image classifier (…ForImageClassification)",
            "image-embed": f"a model of images and texts ({', '.join(sorted(_FAMILIES))})",
        }
        raise ModelNotSupported(
            f"{file}: {name or 'no architecture'}: BATCHER_TASK={wanted} needs {needs[wanted]}"
        )
    if found is not None and wanted not in ("auto", found):
        raise ModelNotSupported(f"{file}: {name} is for BATCHER_TASK={found}, not {wanted}")
    return found


def read_vision_spec(folder: Path, task: str = "auto") -> VisionSpec:
    """Raises ModelNotSupported."""
    chosen = image_task(folder, task)
    place, normalize = _place(folder)
    file = place / "config.json"
    config = read_object(file)
    if chosen is None:
        raise ModelNotSupported(
            f"{file}: {architecture(config) or 'no architecture'} is not of images"
        )
    if "auto_map" in config:
        raise ModelNotSupported(
            f"{file}: its auto_map names code of the model's own, which is not run"
        )
    check_adapter(folder, place)
    processor = read_processor(place)
    source = "architectures in config.json"
    if chosen == "image-classify":
        labels = labels_of(config, file)
        return VisionSpec(
            place,
            chosen,
            _patches(config),
            source,
            _image_size(config),
            processor,
            labels,
            activation_of(config, labels),
        )
    padded_to = _FAMILIES[config["model_type"]]
    of_images = part_of(config, "vision_config", file)
    return VisionSpec(
        place,
        chosen,
        _patches(of_images),
        source,
        _image_size(of_images),
        processor,
        text_limit=_text_limit(folder, place, padded_to),
        padded_to=padded_to,
        normalize=normalize,
    )


def find_vision_spec(folder: Path, wanted: Wanted, cache_dir: str, say: Say) -> VisionSpec:
    """With what the reference says of the texts. Raises ModelNotSupported."""
    spec = read_vision_spec(folder, wanted.task)
    if spec.task != "image-embed":
        return spec
    return replace(spec, text=inspect(folder, replace(wanted, task=spec.task), cache_dir, say))


def simulated_spec(task: str, labels: tuple[str, ...]) -> VisionSpec:
    """Of the simulated accelerator, which takes images as they come."""
    chosen: ImageTask = "image-classify" if task == "image-classify" else "image-embed"
    return VisionSpec(Path(), chosen, 1, "BATCHER_TASK", 16, ProcessorSpec(), labels)


def _place(folder: Path) -> tuple[Path, bool]:
    """Where the model itself is, and whether the chain of sentence-transformers normalises."""
    file = folder / "modules.json"
    chain = [(kind.rpartition(".")[2], path) for kind, path in modules_of(folder)]
    if not chain or chain[0][0] not in _CHAIN:
        return folder, False
    place = folder / chain[0][1]
    rest = [kind for kind, _ in chain[1:]]
    of_family = (
        str(read_object(place / "config.json", optional=True).get("model_type")) in _FAMILIES
    )
    if of_family and rest not in ([], ["Normalize"]):
        raise ModelNotSupported(
            f"{file}: {' → '.join([chain[0][0], *rest])} is not supported for a model of images and"
            " texts (with Normalize after it, or nothing, it is)"
        )
    return place, bool(rest)


def _text_limit(folder: Path, place: Path, padded_to: int | None) -> int | None:
    """Tokens that texts are cut at by the model's kind or by sentence-transformers. Raises
    ModelNotSupported where the latter would make vectors in another way than we do."""
    if not (folder / "modules.json").is_file():
        return padded_to
    file = place / "sentence_bert_config.json"
    config = read_object(file, optional=True)
    modalities = part_of(config, "modality_config", file)
    methods = {kind: part_of(modalities, kind, file).get("method") for kind in modalities}
    if any(method != f"get_{kind}_features" for kind, method in methods.items()):
        raise ModelNotSupported(f"{file}: modality_config {modalities} is not supported")
    if config.get("do_lower_case"):
        raise ModelNotSupported(f"{file}: do_lower_case is not supported for images and texts")
    options = part_of(config, "processing_kwargs", file)
    of_texts = dict(part_of(options, "text", file))
    padding, limit = of_texts.pop("padding", True), of_texts.pop("max_length", None)
    if of_texts or set(options) - {"text"}:
        raise ModelNotSupported(f"{file}: processing_kwargs {options} is not supported")
    is_padded = padded_to is not None
    if (padding == "max_length") != is_padded or (is_padded and limit != padded_to):
        trained = f"max_length ({padded_to})" if is_padded else "the longest of a batch"
        raise ModelNotSupported(
            f"{file}: texts of this model are padded to {trained}, as it was trained, and"
            " processing_kwargs says otherwise"
        )
    own = config.get("max_seq_length")
    return min((n for n in (own, limit) if isinstance(n, int)), default=None)


def _image_size(config: Mapping[str, Any]) -> int:
    size = config.get("image_size")
    return size if isinstance(size, int) and size > 0 else _USUAL_SIZE


def _patches(config: Mapping[str, Any]) -> int:
    """Of one image, and the token of the whole; 1 where it is not made of patches."""
    size, patch = config.get("image_size"), config.get("patch_size")
    if isinstance(size, int) and isinstance(patch, int) and patch > 0:
        return (size // patch) ** 2 + 1
    return 1
