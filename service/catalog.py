"""The models served here, by name, and the tasks of each. One model today.

A task is registered in TASKS; BATCHER_TASK lists the same names, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from batcher.runner import RunnerInfo
from service.errors import WrongTask
from service.repository.spec import EncoderSpec, ModelNotSupported
from service.repository.vision import VisionSpec
from service.tasks.all_tokens import AllTokens
from service.tasks.cl100k import Cl100k
from service.tasks.classify import Classify, PairPreprocessor
from service.tasks.custom import Predict
from service.tasks.embed import Embed
from service.tasks.image_classify import ImageClassify
from service.tasks.image_embed import ImageEmbed
from service.tasks.images import ImagePreprocessor
from service.tasks.plain_text import SIMULATED_LABELS, SIMULATED_VOCAB
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Task
from service.tasks.score import Score
from service.tasks.sparse import Sparse
from service.tasks.tag import Tag
from service.tasks.text import TextTokenizer
from service.tasks.text_inputs import TextPreprocessor
from service.tasks.zero_shot import ZeroShot

AnyTask = Task[Any, Any]
SomeTask = TypeVar("SomeTask", bound=AnyTask)


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """How a task is made for a model, and how callers are told of it where a model lacks it, or
    has it: `this model <lacks>: use <routes>`."""

    make: Callable[[Any, Any], AnyTask]  # of the model's spec, and what preprocesses its inputs
    lacks: str
    routes: str


@dataclass(frozen=True, slots=True)
class FollowingTask:
    """One that is served beside another, of the same model and in the same batches."""

    make: Callable[[EncoderSpec, PairPreprocessor], AnyTask]
    lacks: str
    routes: str
    fits: Callable[[EncoderSpec], bool] = lambda spec: True


TASKS: Mapping[str, TaskEntry] = {
    "embed": TaskEntry(
        lambda spec, text: Embed(text, "model", sizes=spec.matryoshka),
        "is not an embedding model",
        "POST /v1/embeddings or POST /embed",
    ),
    "sparse": TaskEntry(
        lambda spec, text: Sparse(text, spec.dimension),
        "is not an embedding model with SPLADE pooling",
        "POST /embed_sparse",
    ),
    "classify": TaskEntry(
        lambda spec, text: Classify(text, spec.labels, spec.activation),
        "is not a classifier model",
        "POST /predict",
    ),
    "score": TaskEntry(
        lambda spec, text: Score(text, spec.labels, spec.activation),
        "is not a re-ranker model",
        "POST /rerank or POST /predict",
    ),
    "tag": TaskEntry(
        lambda spec, text: Tag(text, spec.labels, spec.unknown_token),
        "does not classify tokens",
        "POST /",
    ),
    "image-classify": TaskEntry(
        lambda spec, both: ImageClassify(both[0], spec.labels, spec.activation),
        "does not classify images",
        "POST /",
    ),
    "image-embed": TaskEntry(
        lambda spec, both: ImageEmbed(both[0], both[1], "model"),
        "has no space of images and texts",
        "POST /",
    ),
    "predict": TaskEntry(
        lambda spec, text: Predict(), "is not one of the user's own", "POST /v1/predict"
    ),
}


# What models of a task can do beside it, by that task.
BESIDE: Mapping[str, Mapping[str, FollowingTask]] = {
    "embed": {
        AllTokens.name: FollowingTask(
            lambda spec, text: AllTokens(text, spec.dimension),
            "does not answer a vector for each token",
            "POST /embed_all",
        )
    },
    "classify": {
        ZeroShot.name: FollowingTask(
            lambda spec, text: ZeroShot(text, spec.labels, spec.entailment or 0),
            "does not tell whether a text entails another (no label says entailment)",
            "POST / with candidate_labels",
            lambda spec: spec.entailment is not None,
        )
    },
}
_TOLD: Mapping[str, TaskEntry | FollowingTask] = {
    **TASKS,
    **{name: task for following in BESIDE.values() for name, task in following.items()},
}


def primary(task: str) -> str:
    """The task that a model must be for, to be served for this one."""
    return next((name for name, following in BESIDE.items() if task in following), task)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model, as clients see it. Known once it has been found; its replicas come up later."""

    name: str
    created: int  # Unix seconds
    tasks: Mapping[str, AnyTask]
    dimension: int | None = None  # None: the user's own runner knows
    max_length: int | None = None  # tokens
    pooling: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)  # by name
    default_prompt_name: str | None = None
    is_own: bool = False  # a runner of the user's own
    is_decided: bool = True  # False: its worker, once it is up, says what it takes and answers
    tokenizer: TextTokenizer | None = None  # None: the runner takes texts
    # More tasks, if that runner is a class, by the dimension that it states: see decided().
    if_class: Mapping[str, Callable[[int | None], AnyTask]] = field(default_factory=dict)
    canary_input: ModelInput | None = None  # None: the first task makes it, of a text
    more_names: Sequence[str] = ()
    cl100k: Cl100k | None = None  # what token ids of OpenAI's clients stand for; None: unknown
    takes_any_name: bool = True  # in a request; else one of the aliases
    aliases: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        last_parts = (name.rstrip("/").rpartition("/")[2] for name in self.names)
        object.__setattr__(self, "aliases", frozenset({*self.names, *last_parts}))

    @property
    def names(self) -> tuple[str, ...]:
        """Those that it is listed by; answers say the first."""
        return (self.name, *self.more_names)

    def task(self, kind: type[SomeTask]) -> SomeTask:
        """Raises WrongTask, which says what the model is for."""
        found = self.tasks.get(kind.name)
        if type(found) is kind:
            return found
        raise WrongTask(wrong_task(kind.name, self.tasks))

    def decided(self, info: RunnerInfo) -> ServedModel:
        """Once its worker is up, by what it has reported. A plain function and a Model are for
        POST /v1/predict alone."""
        facts = info.details
        makers = {} if facts.get("is_model") is True else self.if_class
        tasks = {**self.tasks, **{name: make(info.dimension) for name, make in makers.items()}}
        if Predict.name in tasks:
            tasks[Predict.name] = Predict.of(facts)
        return replace(self, tasks=tasks, if_class={}, is_decided=True)

    def canary(self) -> ModelInput:
        """What a replica is to run that has run nothing for long."""
        if self.canary_input is not None:
            return self.canary_input
        [first, *_] = self.tasks.values()
        return first.preprocess("ok", DEFAULT_OPTIONS)


def wrong_task(wanted: str, there: Iterable[str]) -> str:
    return f"this model {_TOLD[wanted].lacks}: use {' or '.join(_TOLD[n].routes for n in there)}"


def text_model(
    name: str, spec: EncoderSpec, preprocessor: PairPreprocessor, created: int
) -> ServedModel:
    task = TASKS[spec.task].make(spec, preprocessor)
    following = {
        name: each.make(spec, preprocessor)
        for name, each in BESIDE.get(spec.task, {}).items()
        if each.fits(spec)
    }
    return ServedModel(
        name,
        created,
        {spec.task: task, **following},
        spec.dimension,
        spec.max_length,
        "splade" if spec.task == Sparse.name else spec.pooling,
        spec.prompts,
        spec.default_prompt_name,
        tokenizer=preprocessor if isinstance(preprocessor, TextTokenizer) else None,
    )


def vision_model(
    name: str,
    spec: VisionSpec,
    images: ImagePreprocessor,
    texts: TextPreprocessor | None,  # of image-embed
    created: int,
) -> ServedModel:
    task = TASKS[spec.task].make(spec, (images, texts))
    assert isinstance(task, ImageClassify | ImageEmbed)
    return ServedModel(
        name,
        created,
        {task.name: task, task.in_texts.name: task.in_texts},
        max_length=texts.max_length if texts is not None else None,
        prompts=spec.text.prompts if spec.text is not None else {},
        default_prompt_name=spec.text.default_prompt_name if spec.text is not None else None,
        tokenizer=texts if isinstance(texts, TextTokenizer) else None,
        canary_input=_blank(spec),
    )


def _blank(spec: VisionSpec) -> ModelInput:
    """An image of the size that the model takes even where its processor does not resize."""
    return ModelInput(np.zeros((spec.image_size, spec.image_size, 3), np.uint8), spec.cost)


def simulated_model(
    name: str, task: str, preprocessor: PairPreprocessor, created: int
) -> ServedModel:
    """`task` as in BATCHER_TASK; auto: vectors. Raises ModelNotSupported."""
    if task == Classify.name:
        labels = SIMULATED_LABELS[task]
        return ServedModel(name, created, {task: Classify(preprocessor, labels, "softmax")})
    if task == Score.name:
        labels = SIMULATED_LABELS[task]
        return ServedModel(name, created, {task: Score(preprocessor, labels, "sigmoid")})
    if task == Sparse.name:
        return ServedModel(name, created, {task: Sparse(preprocessor, SIMULATED_VOCAB)})
    if task not in ("auto", Embed.name):
        raise ModelNotSupported(
            f"BATCHER_TASK={task}: the simulated accelerator (BATCHER_RUNNER=simulated) has no"
            " answers of this task"
        )
    return ServedModel(name, created, {Embed.name: Embed(preprocessor)})


def own_model(name: str, task: str, preprocessor: TextPreprocessor, created: int) -> ServedModel:
    """A runner of the user's own. `task` as in BATCHER_TASK; auto: JSON in and out, and vectors as
    well where it is a class that answers some."""
    if task == "embed":
        return ServedModel(
            name, created, {"embed": Embed(preprocessor, "service", checks=True)}, is_own=True
        )
    if task not in ("auto", "predict"):
        raise ModelNotSupported(
            f"BATCHER_TASK={task}: a runner of your own may be for predict, embed, or both (auto)"
        )

    def embed(dimension: int | None) -> AnyTask:
        # One that states a dimension is for vectors: another answer of it is a failure.
        not_for_it = wrong_task("embed", ["predict"]) if dimension is None else None
        return Embed(
            preprocessor, "service", checks=True, dimension=dimension, wrong_task=not_for_it
        )

    if_class = {"embed": embed} if task == "auto" else {}
    tasks = {Predict.name: Predict()}
    return ServedModel(name, created, tasks, is_own=True, is_decided=False, if_class=if_class)
