"""What a model is for, by its config.json: the task, and a classifier's labels. Pure.

`auto` takes only what is certain. All else is refused, with the setting that decides: a head that
is dropped in silence gives answers that look right and mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from service.repository.json_files import ModelNotSupported

Task = Literal["embed", "sparse", "classify", "score", "tag", "image-embed"]
Activation = Literal["softmax", "sigmoid", "none"]
"""From a classifier's logits to scores: softmax, or sigmoid for one label or for independent ones,
as transformers' pipeline has it. (text-embeddings-inference has softmax for the latter, too.) None:
the numbers of a regression are its scores."""

CLASSIFIERS = ("classify", "score")  # the tasks of a text classifier: several labels, or one

# A body without a head: BertModel, MPNetModel. Not GPT2LMHeadModel, EncoderDecoderModel.
_BODY = re.compile(r"^\w+(?<!Head)(?<!Heads)(?<!Decoder)Model$")
_CLASSIFIER = re.compile(r"^\w+ForSequenceClassification$")
_TAGGER = re.compile(r"^\w+ForTokenClassification$")
_FILLS_MASKS = re.compile(r"^\w+ForMaskedLM$")
# transformers' own defaults, where config.json does not name `type_vocab_size`.
_TYPES_BY_DEFAULT = {"bert": 2, "electra": 2, "albert": 2, "mobilebert": 2, "roberta": 2}
_NEEDS: Mapping[str, str] = {
    "sparse": "a masked language model (…ForMaskedLM)",
    "classify": "a text classifier",
    "score": "a text classifier",
    "tag": "a token classifier (…ForTokenClassification)",
}
_BY_HAND: Mapping[Task, str] = {
    "embed": "serves its body's vectors",
    "sparse": "serves it as a sparse encoder (SPLADE)",
    "classify": "runs it as a classifier",
    "score": "runs it as a classifier",
    "tag": "runs it as a classifier of tokens",
    "image-embed": "serves it for images and texts",
}


def architecture(config: Mapping[str, Any]) -> str:
    """`BertModel`; empty: the config names none."""
    names = config.get("architectures")
    return " + ".join(map(str, names)) if isinstance(names, list) else ""


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Of whole texts, not of their tokens."""
    return _is_of_text(config) and _CLASSIFIER.match(architecture(config)) is not None


def fills_masks(config: Mapping[str, Any]) -> bool:
    """It has a logit for each word of the vocabulary at each token."""
    return _is_of_text(config) and _FILLS_MASKS.match(architecture(config)) is not None


def choose_task(
    wanted: str,
    config: Mapping[str, Any],
    file: Path,
    *,
    is_sentence_encoder: bool,
    is_sparse_encoder: bool = False,
) -> Task:
    """`wanted`: auto or a task. `file` is the config's. `is_sentence_encoder`: the files of
    sentence-transformers name a pooling, so that the architecture's head is of no matter.
    `is_sparse_encoder`: they name a SpladePooling.

    Raises ModelNotSupported for what auto is not sure of, and for a task the model cannot do.
    """
    name = architecture(config)
    if wanted == "embed":
        return "embed"
    if wanted == "image-embed":  # see vision.py, which has decided
        return "image-embed"
    able = None if is_sentence_encoder else _task_of_head(config, file)
    if is_sparse_encoder and wanted in ("auto", "sparse"):
        return "sparse"
    if wanted in _NEEDS:
        return _wanted(wanted, able, "a sentence encoder" if is_sentence_encoder else name, file)
    if is_sentence_encoder:
        return "embed"
    # A masked language model is a sparse encoder only where its files say so.
    if able is not None and able != "sparse":
        return able
    if _is_of_text(config) and _BODY.match(name):
        return "embed"
    raise ModelNotSupported(
        f"{file}: {name or 'no architecture is named'}: BATCHER_TASK=auto takes classifiers of"
        " texts (…ForSequenceClassification) and of tokens (…ForTokenClassification),"
        " sentence-transformers folders and text encoders without a head (…Model);"
        f" {_by_hand(config, 'embed')}"
        + ("" if _is_of_text(config) else " (the file has no vocab_size: not a model of texts)")
        + (f", {_by_hand(config, able)}" if able is not None else "")
    )


def _task_of_head(config: Mapping[str, Any], file: Path) -> Task | None:
    """None: none of ours. A classifier with one label is a cross-encoder, which answers all that a
    classifier does."""
    if is_classifier(config):
        return "score" if len(labels_of(config, file)) == 1 else "classify"
    if _is_of_text(config) and _TAGGER.match(architecture(config)):
        return "tag"
    return "sparse" if fills_masks(config) else None


def _wanted(wanted: str, able: Task | None, what: str, file: Path) -> Task:
    if able is None or (able != wanted and not (able in CLASSIFIERS and wanted in CLASSIFIERS)):
        what = what or "no architecture"
        raise ModelNotSupported(f"{file}: {what}: BATCHER_TASK={wanted} needs {_NEEDS[wanted]}")
    if wanted == "score" and able != "score":
        raise ModelNotSupported(
            f"{file}: {what} has several labels: BATCHER_TASK=score needs a classifier with one"
        )
    return able


def dropped_head(config: Mapping[str, Any]) -> str:
    """The architecture whose head is left out if the model is served as an encoder; empty: none."""
    name = architecture(config)
    return "" if not name or _BODY.match(name) else name


def labels_of(config: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """The labels of a classifier by the place of their logit, one at least. Raises
    ModelNotSupported."""
    named = config.get("id2label")
    if named is None:
        number = config.get("num_labels", 2)  # transformers' default
        if type(number) is not int or number < 1:
            raise ModelNotSupported(f"{file}: num_labels is {number!r}, not a number of labels")
        return tuple(f"LABEL_{place}" for place in range(number))
    try:
        labels = {int(place): str(label) for place, label in named.items()}
        found = tuple(labels[place] for place in range(len(labels)))
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise ModelNotSupported(f"{file}: id2label does not number its labels from 0") from error
    if not found:
        raise ModelNotSupported(f"{file}: id2label names no label")
    return found


def entailment_of(config: Mapping[str, Any], labels: tuple[str, ...]) -> int | None:
    """The place of the label that says that one text follows from another, as transformers finds
    it; None: there is none."""
    named = config.get("label2id")
    places = named if isinstance(named, dict) else {label: at for at, label in enumerate(labels)}
    for label, place in places.items():
        if str(label).lower().startswith("entail") and place in range(len(labels)):
            return int(place)
    return None


def activation_of(config: Mapping[str, Any], labels: tuple[str, ...]) -> Activation:
    """As the pipelines of transformers have it."""
    match config.get("problem_type"):
        case "regression":
            return "none"
        case "multi_label_classification":
            return "sigmoid"
    return "sigmoid" if len(labels) == 1 else "softmax"


def takes_token_types(config: Mapping[str, Any]) -> bool:
    """Whether a pair's second text is marked by token types, as BERT has it and RoBERTa has not."""
    default = _TYPES_BY_DEFAULT.get(str(config.get("model_type")), 0)
    number = config.get("type_vocab_size", default)
    return isinstance(number, int) and number > 1


def _is_of_text(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("vocab_size"), int)


def _by_hand(config: Mapping[str, Any], task: Task) -> str:
    if _is_of_text(config) and not config.get("is_encoder_decoder"):
        return f"BATCHER_TASK={task} {_BY_HAND[task]}"
    return "there is no setting that serves it"
