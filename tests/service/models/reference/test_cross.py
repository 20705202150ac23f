"""A classifier that sentence-transformers has saved is answered as CrossEncoder answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.models.config import ModelConfig, RunnerConfig
from service.models.encoder import EncoderRunner
from service.placement.replica_count import Placement
from service.repository.json_files import ModelNotSupported
from service.tasks.text import TextTokenizer
from tests.service.tiny import make_classifier, make_tiny, read_spec

library = pytest.importorskip("sentence_transformers")

PAIRS = [("one TWO", "THREE"), ("two three four five one", "five four three two one two"), ("", "")]


def saved(folder: Path, **options: Any) -> Path:
    """`options`: of sentence_bert_config.json."""
    plain = make_classifier(folder / "plain", "bert", 1)
    library.CrossEncoder(str(plain), device="cpu").save(str(folder), create_model_card=False)
    return changed(folder, **options)


def changed(folder: Path, **options: Any) -> Path:
    file = folder / "sentence_bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | options))
    return folder


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 16),
        ({"max_seq_length": 9, "do_lower_case": True}, 9),
        ({"processing_kwargs": {"text": {"max_length": 7}}}, 7),
    ],
)
def test_its_files_say_how_long_a_pair_is_and_of_which_case(
    tmp_path: Path, options: dict[str, Any], limit: int
) -> None:
    folder = saved(tmp_path / "model", **options)
    spec = read_spec(folder)
    assert (spec.task, spec.max_length) == ("score", limit)
    config = ModelConfig(str(folder), backend="torch", cache_dir=str(tmp_path))
    started = EncoderRunner(RunnerConfig(config, Placement("cpu", threads=1)))
    started.warm_up()
    tokenizer = TextTokenizer.load(spec)
    answers = started.run([tokenizer.prepare_pair(*pair).payload for pair in PAIRS])
    model = library.CrossEncoder(str(folder), device="cpu")
    expected = model.predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(np.ravel(np.asarray(answers)), expected, rtol=1e-4, atol=1e-5)


def test_one_that_writes_its_pairs_into_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    template = "{% for message in messages %}{{ message['content'] }} five {% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    logits = {"method": "forward", "method_output_name": "logits"}
    changed(folder, modality_config={"text": logits, "message": logits | {"format": "flat"}})
    with pytest.raises(ModelNotSupported, match="do not give the reference library's own answers"):
        read_spec(folder)


def test_an_embedder_is_cut_where_its_processor_is_told_to(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    changed(folder, processing_kwargs={"common": {"max_length": 6}})
    assert read_spec(folder).max_length == 6
