"""Which task of Hugging Face a body asks for, as far as it shows. Pure.

One path serves all of them, so a client that asks a model for another task would else read an
answer that means something else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from service.errors import WrongTask

FEATURES = "feature extraction"
SIMILARITY = "sentence similarity"
RERANKING = "reranking"
CLASSIFICATION = "text classification"
ZERO_SHOT = "zero-shot classification"
TOKENS = "token classification"
IMAGES = "image classification"
ZERO_SHOT_IMAGES = "zero-shot image classification"

# What only these have, as huggingface_hub's InferenceClient and @huggingface/inference send it.
_PARAMETERS: Mapping[str, Collection[str]] = {
    "candidate_labels": (ZERO_SHOT, ZERO_SHOT_IMAGES),
    "hypothesis_template": (ZERO_SHOT, ZERO_SHOT_IMAGES),
    "multi_label": (ZERO_SHOT,),
    "aggregation_strategy": (TOKENS,),
    "ignore_labels": (TOKENS,),
    "stride": (TOKENS,),
    "function_to_apply": (CLASSIFICATION, IMAGES),
    "top_k": (CLASSIFICATION, IMAGES),
    "targets": ("fill-mask",),
    "max_new_tokens": ("text generation",),
    "generate_parameters": ("text generation",),
    "clean_up_tokenization_spaces": ("summarization or translation",),
    "src_lang": ("translation",),
    "tgt_lang": ("translation",),
    "threshold": ("object detection or segmentation",),
    "handle_impossible_answer": ("question answering",),
}
_INPUTS: Mapping[str, Collection[str]] = {
    "source_sentence": (SIMILARITY,),
    "question": ("question answering",),
    "table": ("table question answering",),
    "past_user_inputs": ("conversation",),
}
_BESIDE: Mapping[str, Collection[str]] = {
    "normalize": (FEATURES,),
    "dimensions": (FEATURES,),
    "encoding_format": (FEATURES,),
}


def check(body: Mapping[str, Any], served: Collection[str]) -> None:
    """Raises WrongTask where the body is for none of the tasks that are served."""
    parts = (
        ("", body, _BESIDE),
        ("inputs.", body.get("inputs"), _INPUTS),
        ("parameters.", body.get("parameters"), _PARAMETERS),
    )
    for before, part, signs in parts:
        if not isinstance(part, dict):
            continue
        for name in part.keys() & signs.keys():
            if part[name] is not None and set(signs[name]).isdisjoint(served):
                raise not_served(f"{before}{name} is of {' or '.join(signs[name])}", served)


def not_served(why: str, served: Collection[str]) -> WrongTask:
    return WrongTask(f"{why}; the model that is served here is for {_listed(list(served))}")


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
