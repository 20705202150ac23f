"""Legal combinations of files, settings and options, drawn at random."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from loadtests.checks.models.case import Case
from loadtests.checks.models.sweep import EXPORTED
from loadtests.models import vision
from loadtests.models.bodies import BODIES, HIDDEN
from loadtests.models.folder import Folder, Step
from loadtests.models.folders import LEGACY_POOLING
from service.models.heads import EVERY_BACKEND, HEADS

PROMPTS = {"query": "query: ", "passage": "Passage, of two words: ", "none": ""}
_ACTIVATIONS = ("Tanh", "Identity", "GELU", "ReLU")
_plain_steps = st.builds(
    lambda mode, normalize: (Step("Pooling", (mode,)), *[Step("Normalize")] * normalize),
    st.sampled_from(["mean", "cls", "lasttoken"]),
    st.booleans(),
)


@st.composite
def _any_steps(draw: st.DrawFn) -> tuple[Step, ...]:
    modes = draw(st.lists(st.sampled_from(sorted(LEGACY_POOLING)), min_size=1, max_size=2))
    # The library joins several in an order of its own.
    steps = [Step("Pooling", tuple(mode for mode in LEGACY_POOLING if mode in modes))]
    for kind in draw(st.lists(st.sampled_from(["Dense", "LayerNorm", "Dropout"]), max_size=2)):
        size = draw(st.sampled_from([8, 24, HIDDEN]))
        activation = draw(st.sampled_from(_ACTIVATIONS))
        steps.append(Step(kind, size=size, activation=activation, bias=draw(st.booleans())))
    return (*steps, *[Step("Normalize")] * draw(st.booleans()))


def _sometimes(these: Any, plain: Any) -> Any:
    return st.one_of(st.just(plain), st.just(plain), these)


def _limits(most: int) -> Any:
    return st.none() | st.sampled_from([3, 7, 16, most - 1, most])


@st.composite
def cases(
    draw: st.DrawFn,
    tasks: tuple[str, ...] = ("embed",),
    backends: tuple[str, ...] = ("torch", "reference"),
) -> Case:
    task = draw(st.sampled_from(tasks))
    if task in vision.KINDS:
        return draw(_seen(task))
    kind = draw(st.sampled_from([name for name, body in BODIES.items() if task in body.tasks]))
    positions = draw(st.sampled_from([24, 40, 64]))
    of_decoder = BODIES[kind].tokenizer == "decoder"
    given: dict[str, Any] = {
        "task": task,
        "kind": kind,
        "positions": positions,
        "model_max_length": draw(_limits(positions)),
        "cased": draw(st.booleans()),
        "ends": draw(st.booleans()) if of_decoder else True,
        # Where positions are counted from the left end of a row, padding there is refused.
        "padding_side": draw(st.sampled_from(["right"] * (1 if of_decoder else 6) + ["left"])),
        "truncation_side": draw(_sometimes(st.just("left"), "right")),
        "added": draw(_sometimes(st.just(("dogs", " river")), ())),
        "own_padding": draw(_sometimes(st.just(True), False)),
        "weights": draw(_sometimes(st.sampled_from(["bin", "shards"]), "safetensors")),
        "dtype": draw(_sometimes(st.sampled_from(["bfloat16", "float16"]), "float32")),
    }
    settings: dict[str, str] = {}
    options: dict[str, Any] = {}
    if task in ("embed", "sparse"):
        given |= {
            "max_seq_length": draw(_limits(positions)),
            "do_lower_case": draw(st.booleans()),
            "legacy": draw(st.booleans()),
            "subfolder": draw(_sometimes(st.just("0_Transformer"), "")),
            "prompts": draw(st.none() | st.just(PROMPTS)),
            "similarity": draw(st.none() | st.sampled_from(["cosine", "dot", "euclidean"])),
        }
        if given["prompts"]:
            given["default_prompt_name"] = draw(st.none() | st.sampled_from(list(PROMPTS)))
            options["prompt_name"] = draw(st.none() | st.sampled_from(list(PROMPTS)))
        if draw(_sometimes(st.just(True), False)):
            settings["prompt"] = "the setting's: "
        if draw(_sometimes(st.just(True), False)):
            settings["prompts"] = json.dumps({"query": "another query: ", "more": "more "})
            options["prompt_name"] = draw(st.sampled_from(["query", "more"]))
        options["truncation_direction"] = draw(st.sampled_from([None, "Left", "Right"]))
    if task == "embed":
        given["steps"] = draw(_sometimes(_any_steps(), draw(_plain_steps)))
        given["matryoshka"] = draw(_sometimes(st.just((4, 8)), ()))
        if draw(st.integers(0, 7)) == 0 and not of_decoder:
            given["steps"] = ()
        if draw(st.integers(0, 3)) == 0 and given["steps"]:
            settings["pooling"] = draw(st.sampled_from(["mean", "cls", "last", "max"]))
        if draw(_sometimes(st.just(True), False)):
            options["normalize"] = False
        if draw(_sometimes(st.just(True), False)):
            options["dimensions"] = draw(st.sampled_from([4, 8]))
    elif task == "sparse":
        pooling, activation = st.sampled_from(["max", "sum"]), ["relu", "log1p_relu"]
        given["splade"] = draw(st.tuples(pooling, st.sampled_from(activation)))
        given["most_active"] = draw(st.none() | st.just(6))
    elif task == "score":
        given["steps"] = draw(st.sampled_from([(), (Step("Pooling"),)]))
        given["labels"] = draw(st.sampled_from([(), ("relevant",)]))
        if draw(_sometimes(st.just(True), False)):
            settings["prompt"] = "query: "
    else:
        given["labels"] = draw(
            st.sampled_from([(), ("B-PER", "I-PER", "O"), ("O", "B-LOC", "I-LOC", "B-PER")])
        )
    if task == "classify":
        if draw(st.integers(0, 3)) == 0:
            given["labels"] = ("contradiction", "neutral", "entailment")
        problems = ["single_label_classification", "multi_label_classification", "regression"]
        given["problem"] = draw(st.none() | st.sampled_from(problems))
    if not given.get("steps", True):  # no file of sentence-transformers says anything
        given |= dict.fromkeys(("max_seq_length", "prompts", "default_prompt_name", "similarity"))
        given |= {"do_lower_case": False, "legacy": False, "subfolder": ""}
        options.pop("prompt_name", None)
        settings.pop("prompts", None)
    able = [name for name in backends if name in EVERY_BACKEND and name in HEADS[task].backends]
    able += ["reference"] * ("reference" in backends)
    # The others take seconds to export, and not every architecture can be.
    seldom = [name for name in able if name in ("onnx", "openvino")]
    often = [name for name in able if name not in seldom] or seldom
    chosen = draw(st.sampled_from(often))
    if seldom and kind in EXPORTED and draw(st.integers(0, 3)) == 0:
        chosen = draw(st.sampled_from(seldom))
    settings["backend"] = chosen if _is_plain(given, settings) else "reference"
    return Case(Folder(**given), settings, options)


@st.composite
def _seen(draw: st.DrawFn, task: str) -> Case:
    """Of models that see: everything that an image processor's file may legally say."""
    kind = draw(st.sampled_from(vision.KINDS[task]))
    name = vision.processor_of(kind)
    given: dict[str, Any] = {
        "task": task,
        "kind": kind,
        "steps": (),
        "nested": draw(_sometimes(st.just(True), False)),
        "fast": draw(st.booleans()),
        "weights": draw(_sometimes(st.sampled_from(["bin", "shards"]), "safetensors")),
        "dtype": draw(_sometimes(st.sampled_from(["bfloat16", "float16"]), "float32")),
        "processor": draw(st.fixed_dictionaries({}, optional=_processor_fields(name))),
    }
    if task == "image-classify":
        labels = [(), ("one",), tuple("abcdefgh"), ("cat", "so so")]
        problems = ["single_label_classification", "multi_label_classification", "regression"]
        given["labels"] = draw(st.sampled_from(labels))
        given["problem"] = draw(_sometimes(st.sampled_from(problems), None))
    else:
        given["cased"] = draw(st.booleans())
        given["truncation_side"] = draw(_sometimes(st.just("left"), "right"))
        given["model_max_length"] = draw(st.sampled_from([None, 20, 22]))
        if kind == "clip":  # the library pads texts of others in another way
            steps = [(), (), (Step("Transformer"),), (Step("Transformer"), Step("Normalize"))]
            given["steps"] = draw(st.sampled_from(steps))
            given["legacy"] = bool(len(given["steps"]) == 1 and draw(st.booleans()))
    return Case(Folder(**given), {"backend": draw(st.sampled_from(["auto", "torch"]))})


_colours = st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3)


def _processor_fields(name: str) -> dict[str, Any]:
    """Whatever is said, the model gets the size that it takes."""
    common = {
        "resample": st.integers(0, 5),
        "do_rescale": st.booleans(),
        "rescale_factor": st.sampled_from([1 / 255, 0.01]),
        "do_normalize": st.booleans(),
        "image_mean": _colours,
        "image_std": _colours,
        "do_convert_rgb": st.booleans(),
    }
    plain = vision.PROCESSORS[name]
    if name == "ConvNext":
        return common | {"crop_pct": st.floats(0.5, 1)}
    if "crop_size" in plain:
        edges = st.integers(vision.EDGE, 48)
        return common | {"size": st.builds(lambda edge: {"shortest_edge": edge}, edges)}
    return common


def _is_plain(given: dict[str, Any], settings: dict[str, str]) -> bool:
    """Other backends than the reference may run it."""
    steps = given.get("steps", ())
    if given["task"] != "embed" or not steps:
        return True
    [modes, *others] = [step.modes if step.kind == "Pooling" else step.kind for step in steps]
    if (wanted := settings.get("pooling")) is not None:
        modes = (wanted,)
    known = {("mean",), ("cls",), ("lasttoken",), ("last",)}
    return modes in known and set(others) <= {"Normalize"}
