"""Every task with every architecture that has it, each backend that takes it, and odd files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from loadtests.checks.models.case import Case
from loadtests.models import vision
from loadtests.models.bodies import BODIES, MORE
from loadtests.models.folder import Folder, Step
from loadtests.models.folders import HEADS as AUTO_CLASSES
from service.models.heads import HEADS

MEAN, NORMALIZE = Step("Pooling"), Step("Normalize")
_PROMPTS = {"query": "query: ", "document": "Passage: "}
ODD: Mapping[str, Mapping[str, Any]] = {
    "names of version 2, in a folder of its own": {
        "legacy": True,
        "subfolder": "0_Transformer",
        "steps": (MEAN, NORMALIZE),
    },
    "pickled weights": {"weights": "bin"},
    "weights in shards": {"weights": "shards"},
    "saved in bfloat16": {"dtype": "bfloat16"},
    "saved in float16": {"dtype": "float16"},
    "tokenizer.json pads and cuts": {"own_padding": True},
    "no limit but the positions": {"model_max_length": None, "max_seq_length": None},
    "limits that differ": {"model_max_length": 30, "max_seq_length": 9},
    "a limit over the positions": {"model_max_length": 512, "max_seq_length": None},
    "cut on the left": {"truncation_side": "left", "max_seq_length": 9},
    "lowered, and cased": {"do_lower_case": True, "cased": True},
    "tokens added": {"added": ("dogs", " river")},
    "prompts": {"prompts": _PROMPTS, "default_prompt_name": "query"},
    "similarity by dot product": {"similarity": "dot"},
    "Matryoshka sizes": {"matryoshka": (4, 8)},
}
OF_VECTORS: Mapping[str, tuple[Step, ...]] = {
    "cls": (Step("Pooling", ("cls",)),),
    "last": (Step("Pooling", ("lasttoken",)), NORMALIZE),
    "max": (Step("Pooling", ("max",)),),
    "weighted": (Step("Pooling", ("weightedmean",)), NORMALIZE),
    "by the root": (Step("Pooling", ("mean_sqrt_len_tokens",)),),
    "two": (Step("Pooling", ("cls", "mean")), NORMALIZE),
    "Dense": (MEAN, Step("Dense", size=12), NORMALIZE),
    "two Dense": (MEAN, Step("Dense", size=20, activation="GELU"), Step("Dense", size=8)),
    "LayerNorm": (MEAN, Step("LayerNorm"), NORMALIZE),
    "Dropout": (MEAN, Step("Dropout"), Step("Dense", size=12)),
    "Normalize, then Dense": (MEAN, NORMALIZE, Step("Dense", size=12)),
    "plain folder": (),
}
ODD_FILES: Mapping[str, Mapping[str, Any]] = {
    "a processor within another file": {"nested": True},
    "the name of a fast processor": {"fast": True},
    "pickled weights": {"weights": "bin"},
    "weights in shards": {"weights": "shards"},
    "saved in bfloat16": {"dtype": "bfloat16"},
}
ODD_PROCESSORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "no rescale": ("vit", {"do_rescale": False}),
    "another factor": ("vit", {"rescale_factor": 0.01}),
    "no normalize": ("vit", {"do_normalize": False}),
    "another mean": ("vit", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]}),
    "another filter": ("vit", {"resample": 0}),
    "a square that is named by one number": ("vit", {"size": 32}),
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
    "warped": ("convnext", {"size": {"shortest_edge": 384}}),
    "another share": ("convnext", {"crop_pct": 0.5}),
    "no resize": ("vit", {"do_resize": False}),
    "any size": ("resnet", {"do_resize": False}),
    "no conversion of colours": ("clip", {"do_convert_rgb": False}),
    "of images and texts, another filter": ("clip", {"resample": 2}),
    "of images and texts, larger and cropped": ("clip", {"size": {"shortest_edge": 50}}),
}
_SAYS_NOTHING = {"similarity", "prompts", "lowered, and cased"}  # of a head's folder
_COMPILED = ("bert", "qwen3")  # half a minute each
EXPORTED = ("bert", "roberta", "mpnet", "distilbert", "modernbert", "deberta-v2", "qwen3")


def cases(tasks: tuple[str, ...], backends: tuple[str, ...]) -> list[Case]:
    """Each once."""
    found = [case for task in tasks for case in _of_task(task, backends)]
    return list({case.describe(): case for case in found}.values())


def rare(tasks: tuple[str, ...], backends: tuple[str, ...]) -> list[Case]:
    """The plain folder of each less common architecture."""
    return [
        Case(Folder(task=task, kind=kind), {"backend": backend})
        for task in tasks
        if task in HEADS
        for kind in MORE
        if _has(task, kind)
        for backend in ("torch", "reference")
        if backend in backends
    ]


def _has(task: str, kind: str) -> bool:
    """Whether transformers has a model of this kind with the task's head."""
    import transformers

    mapping = getattr(transformers, AUTO_CLASSES.get(task, "AutoModel"))._model_mapping
    return type(transformers.AutoConfig.for_model(kind)) in mapping


def _of_task(task: str, backends: tuple[str, ...]) -> Iterator[Case]:
    if task in vision.KINDS:
        if "torch" in backends:  # the one that runs them
            yield from _seen(task)
        return
    able = [*HEADS[task].backends, "reference"]
    for kind, body in BODIES.items():
        if task in body.tasks:
            for backend in able:
                is_slow = backend in ("onnx", "openvino")  # exported first
                if backend in backends and (not is_slow or kind in EXPORTED):
                    yield Case(Folder(task=task, kind=kind), {"backend": backend})
            if "compiled" in backends and kind in _COMPILED:
                yield Case(Folder(task=task, kind=kind), {"backend": "torch", "compile": "true"})
    if "torch" in backends:
        yield from _odd(task)


def _seen(task: str) -> Iterator[Case]:
    """Models that see."""
    for kind in vision.KINDS[task]:
        yield Case(Folder(task=task, kind=kind, steps=()))
    for kind, said in ODD_PROCESSORS.values():
        if kind in vision.KINDS[task]:
            yield Case(Folder(task=task, kind=kind, steps=(), processor=said))
    first = vision.KINDS[task][0]
    for said in ODD_FILES.values():
        yield Case(Folder(task=task, kind=first, steps=(), **said))
    if task == "image-embed":
        for steps in ((Step("Transformer"),), (Step("Transformer"), NORMALIZE)):
            yield Case(Folder(task=task, kind="clip", steps=steps))
        yield Case(Folder(task=task, kind="clip", steps=(Step("Transformer"),), legacy=True))
        yield Case(Folder(task=task, kind="clip", steps=(), model_max_length=20))
        return
    for problem in ("single_label_classification", "multi_label_classification", "regression"):
        yield Case(Folder(task=task, kind=first, steps=(), problem=problem))
    yield Case(Folder(task=task, kind=first, steps=(), labels=("one",)))
    yield Case(Folder(task=task, kind=first, steps=(), labels=tuple("abcdefgh")))


def _odd(task: str) -> Iterator[Case]:
    kinds = [name for name in ("bert", "xlm-roberta", "qwen3") if task in BODIES[name].tasks]
    for kind in kinds:
        for said in ODD.values():
            fields = dict(said)
            if task != "embed":
                known = {"legacy", "subfolder", "max_seq_length", "prompts", "do_lower_case"}
                of_library = {*known, "default_prompt_name", "similarity", "matryoshka", "steps"}
                kept = known | {"default_prompt_name"} if task == "sparse" else set()
                fields = {k: v for k, v in fields.items() if k not in of_library - kept}
            if fields:
                yield Case(Folder(task=task, kind=kind, **fields), {"backend": "torch"})
        if task == "embed":
            for steps in OF_VECTORS.values():
                if steps or kind != "qwen3":  # whose pooling nothing names
                    yield Case(Folder(kind=kind, steps=steps), {"backend": "auto"})
            pooled = Folder(kind=kind, padding_side="left", steps=())
            if kind == "qwen3":
                yield Case(pooled, {"backend": "torch", "pooling": "last"})
                yield Case(dataclasses.replace(pooled, ends=False), {"pooling": "last"})
    if task in ("classify", "tag", "score"):
        yield from _of_labels(task)


def _of_labels(task: str) -> Iterator[Case]:
    by_torch = {"backend": "torch"}
    if task == "tag":
        for labels in (("B-PER", "I-PER", "O"), ("O", "PER"), ("LABEL_0", "LABEL_1")):
            yield Case(Folder(task=task, labels=labels), by_torch)
        return
    if task == "score":
        yield Case(Folder(task=task, steps=()), by_torch)
        yield Case(Folder(task=task, kind="qwen3", ends=False), by_torch)
        yield Case(Folder(task=task, labels=("relevant",)), {**by_torch, "prompt": "query: "})
        yield Case(Folder(task=task, problem="regression"), by_torch)
        return
    for problem in ("single_label_classification", "multi_label_classification", "regression"):
        yield Case(Folder(task=task, problem=problem), by_torch)
    yield Case(Folder(task=task, labels=("one",), problem="regression"), by_torch)
    yield Case(Folder(task=task, labels=tuple("abcdefgh")), by_torch)
    for labels in (("contradiction", "neutral", "entailment"), ("ENTAILMENT", "not_entailment")):
        for kind in ("bert", "roberta", "deberta-v2"):
            yield Case(Folder(task=task, kind=kind, labels=labels), by_torch)
