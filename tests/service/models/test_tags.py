"""Entities against transformers' own pipeline, on tiny random models and drawn texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

import transformers

from service.catalog import text_model
from service.errors import InputError
from service.models.backends.torch.packed import PackedBackend
from service.models.encoder import EncoderRunner
from service.repository.spec import ModelNotSupported
from service.tasks.entities import Strategy
from service.tasks.protocol import Options
from service.tasks.tag import Grouping, Tag
from service.tasks.text import TextTokenizer
from tests.conftest import EFFORT
from tests.service.configs import runner_config
from tests.service.taggers import LABELS, Kind, make_tagger
from tests.service.tiny import make_classifier, make_masked, read_spec

STRATEGIES: list[Strategy] = ["none", "simple", "first", "average", "max"]
SENTENCES = [
    "Angela Merkel lives in Berlin.",
    "",
    " ",
    "In New York,  the Berliners' trains; zürich 東京 <unk> </s>!",
    "singer " * 60,
]
PIECES = st.sampled_from(
    [
        "angela",
        "merkeling",
        "Berlin",
        "new york",
        "é",
        "東京",
        "\u0301",
        "'s",
        ".",
        ",",
        "\n",
        "</s>",
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=12).flatmap(
    lambda parts: st.sampled_from(["", " ", "  "]).map(lambda space: space.join(parts))
)


class Stage:
    """A model, as this service runs it and as transformers does."""

    def __init__(self, folder: Path) -> None:
        spec = read_spec(folder)
        self.tokenizer = TextTokenizer.load(spec)
        served = text_model("tests/tiny", spec, self.tokenizer, created=0)
        self.task = served.task(Tag)
        self.runner = EncoderRunner(
            runner_config(str(folder), device="cpu", dtype="float32", threads=1)
        )
        self.info = self.runner.warm_up()
        self.pipeline: Any = transformers.pipeline(
            "token-classification",
            model=str(folder),
            tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
            device=-1,
        )

    def entities(self, text: str, grouping: Grouping) -> list[dict[str, Any]]:
        tokenised = self.task.tokenise(text, Options(), grouping.stride)
        answers = self.runner.run([each.ids for each in tokenised.windows])
        return self.task.entities(tokenised, [self.task.result(each) for each in answers], grouping)

    def expected(self, text: str, grouping: Grouping) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {
            "aggregation_strategy": grouping.strategy,
            "ignore_labels": list(grouping.ignored),
        }
        if grouping.stride is not None:
            asked["stride"] = grouping.stride
        found: list[dict[str, Any]] = self.pipeline(text, **asked)
        return found

    def agree(self, text: str, grouping: Grouping) -> None:
        found, expected = self.entities(text, grouping), self.expected(text, grouping)
        assert [_without_score(each) for each in found] == [_without_score(e) for e in expected]
        scores = [each["score"] for each in found]
        np.testing.assert_allclose(scores, [e["score"] for e in expected], rtol=1e-4, atol=1e-5)


def _without_score(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entity.items() if name != "score"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Kind], Stage]:
    stages: dict[tuple[str, str], Stage] = {}

    def made(kind: str, tokenizer: Kind) -> Stage:
        if (kind, tokenizer) not in stages:
            folder = tmp_path_factory.mktemp("tagger")
            stages[kind, tokenizer] = Stage(make_tagger(folder, kind, tokenizer))
        return stages[kind, tokenizer]

    return made


MODELS: list[tuple[str, Kind]] = [
    ("bert", "wordpiece"),
    ("distilbert", "words"),
    ("roberta", "bytes"),
    ("xlm-roberta", "metaspace"),
    ("mpnet", "wordpiece"),
    ("deberta-v2", "metaspace"),
    ("modernbert", "bytes"),
    ("electra", "wordpiece"),
]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize(("kind", "tokenizer"), MODELS)
def test_entities_are_those_of_the_pipeline(stage: Any, kind: str, tokenizer: Kind) -> None:
    one = stage(kind, tokenizer)
    packs = type(one.runner._backend) is PackedBackend
    assert packs == (kind in ("bert", "roberta", "xlm-roberta"))
    for text in SENTENCES:
        for strategy in STRATEGIES:
            one.agree(text, Grouping(strategy))
            if strategy != "none":
                one.agree(text, Grouping(strategy, ("O", "PER"), stride=5))
    one.agree(SENTENCES[0], Grouping("simple", ()))


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@settings(max_examples=60 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=TEXTS,
    model=st.sampled_from(MODELS[:4]),
    strategy=st.sampled_from(STRATEGIES),
    ignored=st.sampled_from([("O",), (), ("PER", "B-PER"), ("LOC",)]),
    stride=st.one_of(st.none(), st.integers(0, 29)),
)
def test_drawn_texts_have_the_pipelines_entities(
    stage: Any, text: str, model: Any, strategy: Strategy, ignored: Any, stride: int | None
) -> None:
    text = text.encode("utf-8", "ignore").decode()
    one = stage(*model)
    one.agree(text, Grouping(strategy, ignored, None if strategy == "none" else stride))


@pytest.mark.parametrize(("kind", "tokenizer"), MODELS[:3])
def test_labels_are_the_same_among_63_others(stage: Any, kind: str, tokenizer: Kind) -> None:
    one = stage(kind, tokenizer)
    texts = [" ".join(SENTENCES[0].split()[: n % 6]) + " merkel" * (n % 9) for n in range(64)]
    windows = [one.task.tokenise(text, Options()).windows[0].ids for text in texts]
    together = one.runner.run(windows)
    for ids, answer in zip(windows, together, strict=True):
        assert answer.shape == (len(ids), len(LABELS))
        np.testing.assert_allclose(answer, one.runner.run([ids])[0], rtol=1e-4, atol=1e-5)


def test_the_reference_library_runs_it_too(stage: Any, tmp_path: Path) -> None:
    folder = make_tagger(tmp_path, "bert", "wordpiece")
    reference = EncoderRunner(runner_config(str(folder), backend="reference", threads=1))
    assert reference.warm_up()["backend"] == "reference"
    task, one = stage("bert", "wordpiece").task, stage("bert", "wordpiece")
    windows = [task.tokenise(text, Options()).windows[0].ids for text in SENTENCES]
    for answer, expected in zip(reference.run(windows), one.runner.run(windows), strict=True):
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_the_runner_tells_its_labels(stage: Any) -> None:
    info = stage("bert", "wordpiece").info
    assert (info["task"], info["labels"]) == ("tag", LABELS)


def test_a_text_over_the_limit_is_cut_or_refused(stage: Any) -> None:
    task = stage("bert", "wordpiece").task
    with pytest.raises(InputError, match="the limit is 32"):
        task.tokenise("merkel " * 40, Options(truncate=False))
    assert len(task.preprocess("merkel " * 40, Options()).payload) == 32


@pytest.mark.parametrize("stride", [-1, 30])
def test_a_stride_must_leave_something_new(stage: Any, stride: int) -> None:
    with pytest.raises(InputError, match="must be from 0 to 29"):
        stage("bert", "wordpiece").task.check_stride(Grouping("simple", stride=stride))


def test_what_classifies_no_tokens_is_not_for_it(tmp_path: Path) -> None:
    for folder in (make_classifier(tmp_path / "a", "bert"), make_masked(tmp_path / "b", "bert")):
        with pytest.raises(ModelNotSupported, match="BATCHER_TASK=tag needs a token classifier"):
            read_spec(folder, "tag")
