from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from service.repository.architecture import activation_of, labels_of, takes_token_types
from service.repository.folder import ModelFolder, Wanted, read_folder
from service.repository.json_files import ModelNotSupported
from service.repository.vision import image_task, read_vision_spec

AUTO = Wanted()
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 32,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
TRANSFORMER = {"type": "sentence_transformers.models.Transformer", "path": ""}
POOLING = {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}
NORMALIZE = {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}


def write(folder: Path, **files: Any) -> Path:
    """`write(folder, config={...})` writes config.json; "__" is a folder."""
    files = {"config": CONFIG, "tokenizer": {}} | files
    for name, content in files.items():
        file = folder / (name.replace("__", "/") + ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    (folder / "model.safetensors").touch()
    return folder


def read(folder: Path, task: str = "auto") -> ModelFolder:
    return read_folder(folder, Wanted(task))


def modules(*chain: dict[str, str]) -> list[dict[str, str]]:
    return list(chain)


def pooled(folder: Path, config: dict[str, Any]) -> Path:
    return write(folder, modules=modules(TRANSFORMER, POOLING), **{"1_Pooling__config": config})


def test_modules_are_named_in_their_order(tmp_path: Path) -> None:
    read = read_folder(pooled(tmp_path, {"pooling_mode": "mean"}), AUTO)
    assert (read.modules, read.encoder, read.names_pooling) == (
        ("Transformer", "Pooling"),
        tmp_path,
        True,
    )
    assert not read_folder(write(tmp_path / "plain"), AUTO).names_pooling


LOGIT_SCORE = {
    "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
    "path": "1_LogitScore",
}


@pytest.mark.parametrize("task", ["auto", "embed", "score"])
@pytest.mark.parametrize(
    ("saved_as", "chain", "says"),
    [
        ("CrossEncoder", (TRANSFORMER, LOGIT_SCORE), "a cross-encoder of Transformer → LogitScore"),
        ("CrossEncoder", (TRANSFORMER, POOLING), "a cross-encoder of Transformer → Pooling"),
        ("SparseEncoder", (TRANSFORMER, POOLING), "a sparse encoder of Transformer → Pooling"),
        ("MultiVectorEncoder", (TRANSFORMER, NORMALIZE), "model_type MultiVectorEncoder"),
    ],
)
def test_what_was_saved_as_something_else_is_no_sentence_encoder(
    tmp_path: Path, task: str, saved_as: str, chain: tuple[dict[str, str], ...], says: str
) -> None:
    files = {"modules": modules(*chain), "config_sentence_transformers": {"model_type": saved_as}}
    for each in chain:
        (tmp_path / each["path"]).mkdir(exist_ok=True)
    with pytest.raises(ModelNotSupported, match=f"{says}.* is not supported"):
        read(write(tmp_path, **files), task)


def test_a_cross_encoder_that_is_a_classifier_is_one(tmp_path: Path) -> None:
    config = CONFIG | {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "relevance"},
    }
    files = {
        "modules": modules(TRANSFORMER),
        "config_sentence_transformers": {"model_type": "CrossEncoder"},
    }
    assert read(write(tmp_path, config=config, **files)).task == "score"


@pytest.mark.parametrize("chain", [[], {"type": "Transformer"}, [1]])
def test_what_is_no_list_of_modules_is_refused(tmp_path: Path, chain: Any) -> None:
    with pytest.raises(ModelNotSupported, match=r"modules\.json"):
        read(write(tmp_path, modules=chain))


def test_a_module_without_its_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path, modules=modules(TRANSFORMER, POOLING, NORMALIZE))
    with pytest.raises(ModelNotSupported, match=r"1_Pooling: missing, and modules\.json names it"):
        read(tmp_path)
    pooled(tmp_path, {"pooling_mode": "mean"})
    write(tmp_path, modules=modules(TRANSFORMER, POOLING, NORMALIZE))
    assert read(tmp_path).modules == ("Transformer", "Pooling", "Normalize")


@pytest.mark.parametrize("path", ["../elsewhere", "/etc"])
def test_a_module_outside_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ModelNotSupported, match="is outside of the model's folder"):
        read(write(tmp_path, modules=[TRANSFORMER, POOLING | {"path": path}]))


@pytest.mark.parametrize(
    "left", ["1_Pooling__config", "config_sentence_transformers", "sentence_bert_config"]
)
def test_where_the_file_of_modules_alone_is_missing_the_pooling_is_ambiguous(
    tmp_path: Path, left: str
) -> None:
    write(tmp_path, **{left: {}})
    with pytest.raises(ModelNotSupported, match=r"modules\.json: missing.* BATCHER_POOLING"):
        read(tmp_path)
    assert read_folder(tmp_path, Wanted(pooling="cls")).task == "embed"


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path)
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    )
    (folder / "model-1.safetensors").touch()
    with pytest.raises(ModelNotSupported, match=r"model-2\.safetensors: missing, and .*index"):
        read(folder)
    index.unlink()
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelNotSupported, match="no weights"):
        read(folder)


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "tokenizer.json").unlink()
    with pytest.raises(ModelNotSupported, match=r"no tokenizer"):
        read(tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").write_text("{")
    with pytest.raises(ModelNotSupported, match=r"config\.json: cannot be read"):
        read(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelNotSupported, match="not a JSON object"):
        read(tmp_path)


OWN_CODE = {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}


@pytest.mark.parametrize("task", ["auto", "embed", "classify"])
def test_code_of_the_models_own_is_refused_by_name(tmp_path: Path, task: str) -> None:
    for config in (CONFIG | OWN_CODE, CLASSIFIER | OWN_CODE):
        write(tmp_path, config=config)
        with pytest.raises(ModelNotSupported, match=r"auto_map .*BATCHER_TRUST_REMOTE_CODE=true"):
            read_folder(tmp_path, Wanted(task))
    write(tmp_path, tokenizer_config=OWN_CODE)
    assert read_folder(tmp_path, Wanted(trust_remote_code=True)).has_own_code
    own_module = {"type": "own_modules.Twist", "path": ""}
    write(tmp_path, config=CONFIG, tokenizer_config={}, modules=[TRANSFORMER, own_module])
    with pytest.raises(ModelNotSupported, match=r"modules\.json: own_modules\.Twist names code"):
        read(tmp_path)


# What the model is for.


def of(name: str, **fields: Any) -> dict[str, Any]:
    return CONFIG | {"architectures": [name]} | fields


CLASSIFIER = of("BertForSequenceClassification", id2label={"1": "good", "0": "bad"})
TAGGER = of("BertForTokenClassification", id2label={"0": "O", "1": "B-PER"})
CROSS_ENCODER = {"transformer_task": "sequence-classification"}
REFUSED = {
    "of answers": of("BertForQuestionAnswering"),
    "of images": {"architectures": ["ViTForImageClassification"], "hidden_size": 32},
    "a vision encoder": {"architectures": ["ViTModel"], "hidden_size": 32},
    "masked": of("BertForMaskedLM"),
    "causal": of("Qwen2ForCausalLM"),
    "causal, an old name": of("GPT2LMHeadModel"),
    "a generator": of("T5ForConditionalGeneration", is_encoder_decoder=True),
    "two encoders": of("EncoderDecoderModel"),
    "two names": of("BertModel") | {"architectures": ["BertModel", "BertForMaskedLM"]},
    "none": {name: value for name, value in CONFIG.items() if name != "architectures"},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_auto_refuses_what_it_is_not_sure_of(tmp_path: Path, kind: str) -> None:
    config = REFUSED[kind]
    names = " [+] ".join(config.get("architectures", ["no architecture"]))
    with pytest.raises(ModelNotSupported, match=rf"config\.json: {names}.* BATCHER_TASK=auto"):
        read(write(tmp_path, config=config))


def test_a_refusal_names_the_setting_that_decides_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported, match="BATCHER_TASK=embed serves its body's vectors"):
        read(write(tmp_path, config=REFUSED["masked"]))
    for kind in ("of images", "a generator"):
        with pytest.raises(ModelNotSupported, match="there is no setting that serves it"):
            read(write(tmp_path, config=REFUSED[kind]))


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({}, ("bad", "good")),
        ({"id2label": None}, ("LABEL_0", "LABEL_1")),
        ({"id2label": None, "num_labels": 1}, ("LABEL_0",)),
    ],
)
def test_labels_are_in_the_order_of_their_logits(
    fields: dict[str, Any], labels: tuple[str, ...]
) -> None:
    assert labels_of(CLASSIFIER | fields, Path("config.json")) == labels


@pytest.mark.parametrize("labels", [{"1": "a", "2": "b"}, {"x": "a"}, ["a", "b"]])
def test_labels_that_are_not_numbered_from_0_are_refused(labels: Any) -> None:
    with pytest.raises(ModelNotSupported, match="id2label does not number its labels"):
        labels_of(CLASSIFIER | {"id2label": labels}, Path("config.json"))


@pytest.mark.parametrize(
    ("fields", "activation"),
    [
        ({}, "softmax"),
        ({"problem_type": "single_label_classification"}, "softmax"),
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ({"problem_type": "regression"}, "none"),
        ({"id2label": {"0": "score"}}, "sigmoid"),
    ],
)
def test_scores_are_scaled_as_the_labels_ask_for(fields: dict[str, Any], activation: str) -> None:
    config = CLASSIFIER | fields
    assert activation_of(config, labels_of(config, Path("config.json"))) == activation


def test_a_classifier_of_tokens_tags(tmp_path: Path) -> None:
    assert read(write(tmp_path, config=TAGGER)).task == "tag"


def test_a_classifier_with_one_label_is_a_cross_encoder(tmp_path: Path) -> None:
    one = CLASSIFIER | {"id2label": {"0": "relevance"}}
    folder = write(tmp_path, config=one)
    assert {read(folder, task).task for task in ("auto", "score", "classify")} == {"score"}
    for config, why in ((CLASSIFIER, "has several labels"), (CONFIG, "needs a text classifier")):
        write(tmp_path, config=config)
        with pytest.raises(ModelNotSupported, match=why):
            read(tmp_path, "score")


def test_a_classifier_saved_by_sentence_transformers_is_one(tmp_path: Path) -> None:
    files = {"modules": modules(TRANSFORMER), "sentence_bert_config": CROSS_ENCODER}
    assert read(write(tmp_path, config=CLASSIFIER, **files)).task == "classify"


def test_sentence_transformers_files_decide_whatever_the_architecture(tmp_path: Path) -> None:
    chain = modules(TRANSFORMER, POOLING)
    pooling = {"pooling_mode": "cls"}
    for name in ("BertForMaskedLM", "Qwen3ForCausalLM", "BertForSequenceClassification"):
        write(tmp_path, config=of(name), modules=chain, **{"1_Pooling__config": pooling})
        found = read(tmp_path)
        assert (found.task, found.dropped_head) == ("embed", "")
        with pytest.raises(ModelNotSupported, match="a sentence encoder: BATCHER_TASK=classify"):
            read(tmp_path, "classify")


def test_the_body_of_any_text_model_is_served_when_asked_for(tmp_path: Path) -> None:
    for config in (CLASSIFIER, TAGGER, REFUSED["causal"]):
        found = read(write(tmp_path, config=config), "embed")
        assert (found.task, found.dropped_head) == ("embed", config["architectures"][0])
    assert read(write(tmp_path, config=CONFIG), "embed").dropped_head == ""


def test_an_encoder_is_not_served_as_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported, match="BertModel: BATCHER_TASK=classify needs a text"):
        read(write(tmp_path), "classify")


@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        ({"type_vocab_size": 2}, True),
        ({"type_vocab_size": 1}, False),
        ({}, True),  # as transformers has it for BERT
        ({"model_type": "distilbert"}, False),
    ],
)
def test_whether_token_types_are_taken(fields: dict[str, Any], takes: bool) -> None:
    assert takes_token_types(CONFIG | fields) is takes


def test_an_adapter_is_not_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, adapter_config={"base_model_name_or_path": "x"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotSupported, match=r"adapter_config\.json: an adapter needs the pack"):
        read(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert read(tmp_path).task == "embed"


ODD = [0, "x", [], {}, [1], {"a": 1}, {"0": None}, True, None]


@pytest.mark.parametrize(
    "model", ["BertForSequenceClassification", "CLIPModel", "ViTForImageClassification"]
)
def test_what_no_file_should_say_is_one_line(tmp_path: Path, model: str) -> None:
    config = {
        "architectures": [model],
        "model_type": "clip",
        "vocab_size": 9,
        **dict.fromkeys(("id2label", "label2id", "num_labels", "problem_type", "vision_config")),
    }
    texts = {"text": {"padding": True}}
    sentences = {"modality_config": {}, "processing_kwargs": texts, "max_seq_length": 3}
    more = {"prompts": {}, "default_prompt_name": None, "model_type": None}
    files: dict[str, dict[str, Any]] = {
        "config": config,
        "sentence_bert_config": sentences,
        "config_sentence_transformers": more,
        "preprocessor_config": {"size": 3, "resample": 2, "do_resize": True},
    }
    for name, fields in files.items():
        for field, odd in itertools.product(fields, ODD):
            changed = files | {name: fields | {field: odd}}
            write(tmp_path, modules=[TRANSFORMER], **changed)
            for look in (
                lambda: image_task(tmp_path, "auto"),
                lambda: read(tmp_path),
                lambda: read_vision_spec(tmp_path),
            ):
                with contextlib.suppress(ModelNotSupported):
                    look()
