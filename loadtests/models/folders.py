"""A model's folder as its own library saves it, and then what else its files may legally say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from loadtests.models import tokenizers, vision
from loadtests.models.bodies import ALL, HIDDEN, config_of
from loadtests.models.folder import Folder

LEGACY_POOLING = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
HEADS = {
    "sparse": "AutoModelForMaskedLM",
    "score": "AutoModelForSequenceClassification",
    "classify": "AutoModelForSequenceClassification",
    "tag": "AutoModelForTokenClassification",
}


def make(folder: Folder, at: Path) -> Path:
    """At `at`, which is made."""
    import torch

    if folder.task in vision.KINDS:
        return vision.make(folder, at)
    torch.manual_seed(11)
    plain = _transformer(folder, at / "plain")
    made = at / "model"
    if folder.task == "embed" and folder.steps:
        _sentence_transformer(folder, plain, made)
    elif folder.task == "sparse":
        _sparse_encoder(folder, plain, made)
    elif folder.task == "score" and folder.steps:  # as CrossEncoder writes it
        from sentence_transformers import CrossEncoder

        CrossEncoder(str(plain), device="cpu").save_pretrained(str(made))
        shutil.copy(plain / "tokenizer.json", made / "tokenizer.json")
    else:
        shutil.copytree(plain, made)
    if (made / "modules.json").is_file():
        _about(folder, made)
    if folder.legacy and (made / "modules.json").is_file():
        _as_before(made)
    return made


def _transformer(folder: Folder, at: Path) -> Path:
    import torch
    import transformers

    body = ALL[folder.kind]
    of_text = tokenizers.make(body.tokenizer, cased=folder.cased, ends=folder.ends)
    names = ["input_ids", *["token_type_ids"] * body.types, "attention_mask"]
    given = {
        "padding_side": folder.padding_side,
        "truncation_side": folder.truncation_side,
        **(
            {} if folder.model_max_length is None else {"model_max_length": folder.model_max_length}
        ),
        **tokenizers.SPECIAL[body.tokenizer],
    }
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=of_text, model_input_names=names, **given
    )
    tokenizer.add_tokens(list(folder.added))
    labels = folder.labels or (("LABEL_0",) if folder.task == "score" else ())
    more = dict(folder.config)
    if folder.task in ("score", "classify", "tag"):
        labels = labels or ("LABEL_0", "LABEL_1", "LABEL_2")
        more |= {"id2label": dict(enumerate(labels))}
        more |= {"label2id": {label: place for place, label in enumerate(labels)}}
        more |= {} if folder.problem is None else {"problem_type": folder.problem}
    if folder.matryoshka:
        more["matryoshka_dimensions"] = list(folder.matryoshka)
    config = config_of(folder.kind, tokenizer, folder.positions, **more)
    kind = getattr(transformers, HEADS.get(folder.task, "AutoModel"))
    model = kind.from_config(config).eval().to(getattr(torch, folder.dtype))
    shards = {"max_shard_size": "20KB"} if folder.weights == "shards" else {}
    model.save_pretrained(at, **shards)
    tokenizer.save_pretrained(at)
    if folder.weights == "bin":
        torch.save(model.state_dict(), at / "pytorch_model.bin")
        (at / "model.safetensors").unlink()
    if folder.own_padding:
        file = at / "tokenizer.json"
        said = json.loads(file.read_text())
        said["truncation"] = {
            "direction": "Right",
            "max_length": 7,
            "strategy": "LongestFirst",
            "stride": 0,
        }
        said["padding"] = {
            "strategy": {"Fixed": 7},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": tokenizer.pad_token_id,
            "pad_type_id": 0,
            "pad_token": tokenizer.pad_token,
        }
        file.write_text(json.dumps(said))
    return at


def _sentence_transformer(folder: Folder, plain: Path, made: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

    chain: list[Any] = [_loaded(Transformer, folder, plain)]
    size = HIDDEN
    for step in folder.steps:
        match step.kind:
            case "Pooling":
                modes: Any = step.modes if len(step.modes) > 1 else step.modes[0]
                chain.append(Pooling(size, modes))
                size *= len(step.modes)
            case "Dense":
                activation = getattr(torch.nn, step.activation)()
                chain.append(Dense(size, step.size, step.bias, activation))
                size = step.size
            case "LayerNorm":
                chain.append(LayerNorm(size))
            case "Normalize":
                chain.append(Normalize())
            case "Dropout":
                chain.append(Dropout(0.3))
    model = SentenceTransformer(modules=chain, device="cpu")
    model.save(str(made), create_model_card=False)
    _as_it_was(folder, plain, made)


def _sparse_encoder(folder: Folder, plain: Path, made: Path) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    pooling, activation = folder.splade
    model = SparseEncoder(
        modules=[
            _loaded(Transformer, folder, plain, transformer_task="fill-mask"),
            SpladePooling(pooling, activation_function=activation),
        ],
        device="cpu",
        max_active_dims=folder.most_active,
    )
    model.save(str(made), create_model_card=False)
    _as_it_was(folder, plain, made)


def _loaded(kind: Any, folder: Folder, plain: Path, **given: Any) -> Any:
    return kind(str(plain), model_kwargs={"dtype": folder.dtype}, **given)


def _as_it_was(folder: Folder, plain: Path, made: Path) -> None:
    """Tokenizer, weights and config as they lie on the hub, not as the library saves them anew."""
    for file in [*made.glob("*.safetensors*"), *made.glob("tokenizer*.json")]:
        file.unlink()
    for file in plain.iterdir():
        if file.name not in ("README.md",):
            shutil.copy(file, made / file.name)
    if folder.subfolder:
        inner = made / folder.subfolder
        inner.mkdir()
        for file in [*plain.iterdir(), made / "sentence_bert_config.json"]:
            (made / file.name).replace(inner / file.name)
        _change_list(made / "modules.json", 0, path=folder.subfolder)


def _about(folder: Folder, made: Path) -> None:
    said: dict[str, Any] = {}
    if folder.prompts is not None:
        said["prompts"] = dict(folder.prompts)
    if folder.default_prompt_name is not None:
        said["default_prompt_name"] = folder.default_prompt_name
    if folder.similarity is not None:
        said["similarity_fn_name"] = folder.similarity
    change(made / "config_sentence_transformers.json", **said)
    limits: dict[str, Any] = {}
    if folder.max_seq_length is not None:
        limits["max_seq_length"] = folder.max_seq_length
    if folder.do_lower_case:
        limits["do_lower_case"] = True
    file = made / folder.subfolder / "sentence_bert_config.json"
    if limits and file.is_file():
        change(file, **limits)


def _as_before(made: Path) -> None:
    """Names of classes and fields of versions 2: most folders of the hub have them."""
    file = made / "modules.json"
    modules = json.loads(file.read_text())
    for each in modules:
        name = each["type"].rpartition(".")[2]
        if name != "SpladePooling":
            each["type"] = f"sentence_transformers.models.{name}"
        config = made / each["path"] / "config.json"
        if name == "Pooling":
            said = json.loads(config.read_text())
            modes = said["pooling_mode"]
            modes = [modes] if isinstance(modes, str) else modes
            flags = {f"pooling_mode_{of}": mode in modes for mode, of in LEGACY_POOLING.items()}
            flags |= {"word_embedding_dimension": said["embedding_dimension"]}
            config.write_text(json.dumps(flags))
        if name == "Transformer":
            limits = made / each["path"] / "sentence_bert_config.json"
            if "transformer_task" in (kept := json.loads(limits.read_text())):
                names = ("max_seq_length", "do_lower_case")
                task = kept["transformer_task"]
                bare = {name: kept[name] for name in names if name in kept}
                if task == "feature-extraction":
                    limits.write_text(json.dumps(bare))
    file.write_text(json.dumps(modules))
    about = made / "config_sentence_transformers.json"
    said = json.loads(about.read_text())
    if said.get("model_type") == "SentenceTransformer":
        del said["model_type"]
    said["__version__"] = {"sentence_transformers": "2.0.0", "transformers": "4.6.1"}
    about.write_text(json.dumps(said))


def change(file: Path, **fields: Any) -> None:
    said = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(said | fields))


def _change_list(file: Path, place: int, **fields: Any) -> None:
    said = json.loads(file.read_text())
    said[place] |= fields
    file.write_text(json.dumps(said))
