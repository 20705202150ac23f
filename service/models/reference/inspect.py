"""What a model's folder means: its spec, its tokenizer and the reference's answers, in files.

Runs in a process of its own (see repository/inspection.py), once for each model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from batcher.failures import explain, in_one_line
from service.models.backends.reference_answers import ReferenceAnswers, parts, save
from service.models.heads import HEADS, vector_head_of
from service.models.measures import stacked
from service.models.reference.both import texts_of
from service.models.reference.chain import Chain
from service.models.reference.checks import (
    bad_weight,
    check_architecture,
    check_tokens,
    check_vocabulary,
    check_weights,
    serialised,
    without_empty,
)
from service.models.reference.common import common_fields
from service.models.reference.cross import CrossReference
from service.models.reference.damage import find_damage
from service.models.reference.dense import DenseReference
from service.models.reference.headed import HeadedReference
from service.models.reference.limits import fitting, limit_of
from service.models.reference.sparse import SparseReference
from service.models.reference.texts import ODD, ODD_PAIRS, PAIRS, SENTENCES
from service.models.rows import TYPES, own_rows
from service.repository.architecture import (
    CLASSIFIERS,
    activation_of,
    entailment_of,
    labels_of,
    takes_token_types,
)
from service.repository.folder import ModelFolder, Wanted, read_folder
from service.repository.inspection import ANSWERS, REFUSAL, SPEC, TOKENIZER
from service.repository.sentences import matryoshka_of, read_prompts
from service.repository.spec import EncoderSpec, ModelNotSupported, first_int, to_json

_CLOSE = 1e-4  # what two ways of the reference's own may differ by

Made = tuple[EncoderSpec, str, ReferenceAnswers | None]


def main(given: Mapping[str, Any]) -> int:
    """The whole process."""
    made = Path(given["made"])
    wanted = Wanted(given["task"], given["pooling"], given["trust_remote_code"])
    try:
        inspect_here(Path(given["folder"]), wanted, made)
    except ModelNotSupported as error:
        (made / REFUSAL).write_text(in_one_line(str(error)))
    return 0


def inspect_here(folder: Path, wanted: Wanted, made: Path) -> None:
    """Writes SPEC, TOKENIZER and ANSWERS into `made`. Raises ModelNotSupported."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    read = read_folder(folder, wanted)
    check_architecture(read, wanted)
    try:
        spec, tokenizer, answers = _MAKERS.get(read.task, _headed)(read, wanted, made)
        if answers is not None and not np.isfinite(answers.answers).all():
            why = bad_weight(read, getattr(transformers, HEADS[read.task].auto_class))
            raise ModelNotSupported(
                f"{folder}: its answers are not finite (NaN or infinity): {why}"
            )
    except ModelNotSupported:
        raise
    except Exception as error:  # the libraries' own, of any kind
        why = find_damage(read) or f"{folder}: cannot be loaded: {_told(error)}"
        raise ModelNotSupported(why) from error
    if answers is not None:
        save(made / ANSWERS, answers)
    (made / TOKENIZER).write_text(tokenizer)
    (made / SPEC).write_text(
        to_json(
            dataclasses.replace(
                spec,
                tokenizer=Path(TOKENIZER),
                answers=None if answers is None else Path(ANSWERS),
            )
        )
    )


def _dense(read: ModelFolder, wanted: Wanted, made: Path) -> Made:
    reference = DenseReference.load(read, wanted)
    check_weights(read, type(reference.transformer.auto_model))
    names_pooling = read.names_pooling or wanted.pooling != "auto"
    if not names_pooling and reference.pooling() and reference.is_causal():
        raise ModelNotSupported(
            f"{read.whole}: no file names a pooling, and each token of this model sees only those"
            " before it: BATCHER_POOLING (last, mean) says how its vectors are made"
        )
    why_not = reference.why_not_plain() or ("code of its own" if read.has_own_code else "")
    prompts, default = dict(reference.model.prompts), reference.model.default_prompt_name
    if any(prompts.values()) and reference.leaves_out_prompt:
        raise ModelNotSupported(
            f"{read.whole}: pooling that leaves the prompt out is not supported"
        )
    spec = EncoderSpec(
        **common_fields(read, reference.tokenizer, prompts, default),
        pooling=reference.pooling() or "none",
        normalize=reference.normalizes or not names_pooling,
        max_length=limit_of(read, reference.limit, reference.tokenizer),
        dimension=reference.pooled([np.array([1, 2], np.int32)]).shape[1],
        vocab_size=_vocabulary(reference.transformer.auto_model),
        matryoshka=matryoshka_of(read.config, read.encoder / "config.json"),
        takes_token_types=_has_types(read, reference.tokenizer),
        dropped_head=read.dropped_head,
        is_plain=not why_not,
        takes_prompts=not reference.leaves_out_prompt,
        source=_source(read, wanted),
    )
    spec = fitting(spec, lambda ids: reference.pooled([ids]))
    texts, ids, tokenizer = _tokens(reference, spec, read, made)
    pooled = torch.cat([reference.pooled(ids[part]) for part in parts(ids)])
    own = reference.encode(texts)
    as_served = torch.nn.functional.normalize if reference.normalizes else torch.clone
    if _apart(as_served(pooled), as_served(own)) > _CLOSE:
        # Padded on the left some models count positions from the padding on: others may run it.
        pooled = torch.cat([reference.pooled([each]) for each in ids])
    _check_same(as_served(pooled), as_served(own), read)
    answers = vector_head_of(spec).finish(None, spec)(pooled).numpy()
    return spec, tokenizer, ReferenceAnswers(ids, None, answers, len(SENTENCES))


def _sparse(read: ModelFolder, wanted: Wanted, made: Path) -> Made:
    fills_masks = read.is_splade or not read.modules
    kind = HEADS["sparse"].auto_class if fills_masks else "AutoModel"
    check_weights(read, getattr(transformers, kind))
    reference = SparseReference.load(read, wanted)
    splade, model = reference.splade, reference.model
    prompts, default = dict(model.prompts), model.default_prompt_name
    spec = EncoderSpec(
        **common_fields(read, reference.tokenizer, prompts, default),
        pooling="none",
        normalize=False,
        max_length=limit_of(read, reference.limit, reference.tokenizer),
        dimension=reference.weights([np.array([1, 2], np.int32)]).shape[1],
        vocab_size=_vocabulary(reference.transformer.auto_model),
        task="sparse",
        splade_pooling=splade.pooling_strategy if splade is not None else "max",
        splade_activation=splade.activation_function if splade is not None else "relu",
        max_active=model.max_active_dims,
        takes_token_types=_has_types(read, reference.tokenizer),
        is_plain=splade is not None and not read.has_own_code,
        source=_source(read, wanted),
    )
    spec = fitting(spec, lambda ids: reference.weights([ids]))
    texts, ids, tokenizer = _tokens(reference, spec, read, made)
    return spec, tokenizer, ReferenceAnswers(ids, None, reference.encode(texts), len(SENTENCES))


def _headed(read: ModelFolder, wanted: Wanted, made: Path) -> Made:
    head = HEADS[read.task]
    check_weights(read, getattr(transformers, head.auto_class))
    file = read.encoder / "config.json"
    is_cross = bool(read.modules) and read.task in CLASSIFIERS
    cross = CrossReference.load(read, wanted) if is_cross else None
    reference = cross.headed() if cross else HeadedReference.load(read, wanted, head.auto_class)
    stated = cross.limit if cross is not None else reference.tokenizer.model_max_length
    prompts, default = read_prompts(read.whole, embeds=False)
    has_labels = read.task in (*CLASSIFIERS, "tag")
    labels = labels_of(read.config, file) if has_labels else ()
    spec = EncoderSpec(
        **common_fields(read, reference.tokenizer, prompts, default),
        pooling="none",
        normalize=False,
        max_length=limit_of(read, stated, reference.tokenizer),
        dimension=first_int(read.config, ("hidden_size", "dim", "d_model", "n_embd"), file),
        vocab_size=_vocabulary(reference.model),
        task=read.task,
        labels=labels,
        activation=activation_of(read.config, labels),
        entailment=entailment_of(read.config, labels) if read.task == "classify" else None,
        unknown_token=reference.tokenizer.unk_token,
        takes_token_types=_has_types(read, reference.tokenizer),
        is_plain=not read.has_own_code,
        source=_source(read, wanted),
    )
    check_vocabulary(read, reference.tokenizer, spec.vocab_size)
    spec = fitting(spec, reference.longest)
    tokenizer = serialised(reference.tokenizer, read)
    are_paired = read.task in CLASSIFIERS
    judged: list[str | tuple[str, str]] = [*SENTENCES, *(PAIRS if are_paired else ())]
    texts = [*judged, *ODD, *(ODD_PAIRS if are_paired else ())]
    ids, types = reference.tokenize(texts, spec.max_length)
    types = types and without_empty(texts, types)[1]
    texts, ids = without_empty(texts, ids)
    check_tokens(spec, tokenizer, made, texts, ids)
    try:
        rows = _answers(reference, spec, ids, types, parts(ids))
    except ValueError:  # the classifiers of ends.py take only texts that are alike
        alone = [slice(place, place + 1) for place in range(len(ids))]
        rows = _answers(reference, spec, ids, types, alone)
    if has_labels and rows.shape[1] != len(labels):
        raise ModelNotSupported(
            f"{file}: id2label has {len(labels)} labels, and the model {rows.shape[1]}"
        )
    if cross is not None:
        cross.model.max_seq_length = spec.max_length
        _check_same(torch.from_numpy(rows), cross.encode(texts), read)
    types = types if spec.pairs_have_types else None
    return spec, tokenizer, ReferenceAnswers(ids, types, rows, len(judged))


def _answers(
    reference: HeadedReference, spec: EncoderSpec, ids: list[Any], types: Any, batches: list[slice]
) -> Any:
    answers = []
    for part in batches:
        output, mask = reference.run(ids[part], None if types is None else types[part])
        found = HEADS[spec.task].answers(output, mask, spec).float().cpu().numpy()
        answers.append(stacked(own_rows(found, mask.numpy()) if found.ndim == 3 else found))
    return np.concatenate(answers)


def _both(read: ModelFolder, wanted: Wanted, made: Path) -> Made:
    """Its worker runs the reference itself: there is nothing to compare with its answers."""
    return *texts_of(read, made), None


_MAKERS: Mapping[str, Callable[[ModelFolder, Wanted, Path], Made]] = {
    "embed": _dense,
    "image-embed": _both,
    "sparse": _sparse,
}


def _tokens(
    reference: Chain, spec: EncoderSpec, read: ModelFolder, made: Path
) -> tuple[list[str], list[Any], str]:
    """The built-in texts, the reference's tokens of them, which are a frontend's too, and its
    tokenizer. Raises ModelNotSupported."""
    check_vocabulary(read, reference.tokenizer, spec.vocab_size)
    reference.model.max_seq_length = spec.max_length
    texts = [*SENTENCES, *ODD]
    texts, ids = without_empty(texts, reference.tokenize(texts))
    tokenizer = serialised(reference.tokenizer, read)
    check_tokens(spec, tokenizer, made, texts, ids)
    return texts, ids, tokenizer


def _apart(found: torch.Tensor, own: torch.Tensor) -> float:
    return float((found - own).abs().max() / max(1.0, float(own.abs().max())))


def _check_same(found: torch.Tensor, own: torch.Tensor, read: ModelFolder) -> None:
    """Raises ModelNotSupported unless the library gives its own answers to our token ids."""
    apart = _apart(found, own)
    if apart > _CLOSE or (np.isnan(apart) and torch.isfinite(found).all()):
        raise ModelNotSupported(
            f"{read.whole}: token ids alone do not give the reference library's own answers (they"
            f" are {apart:.2g} apart)"
        )


def _vocabulary(model: Any) -> int:
    rows: int = model.get_input_embeddings().weight.shape[0]
    return rows


def _has_types(read: ModelFolder, tokenizer: Any) -> bool:
    return TYPES in tokenizer.model_input_names and takes_token_types(read.config)


def _source(read: ModelFolder, wanted: Wanted) -> str:
    if wanted.pooling != "auto":
        return "BATCHER_POOLING"
    if read.names_pooling:
        return f"modules.json: {' → '.join(read.modules)}"
    return "architectures in config.json"


def _told(error: Exception) -> str:
    text = in_one_line(explain(error))
    return text if len(text) <= 300 else text[:300] + "…"
