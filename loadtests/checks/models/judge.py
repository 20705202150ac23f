"""What the service answers beside what the reference library answers, task by task."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.testclient import TestClient

from loadtests.models.folders import Folder
from service.models.reference.texts import SENTENCES

RTOL, ATOL = 1e-4, 1e-5
ALONE = (0, 1, 2, -1)  # places of the texts that are asked alone, too
QUERY = "Where do two dogs walk along the river?"
Numbers = NDArray[np.float64]


def texts_of_mixed_length(count: int = 64) -> list[str]:
    """The same each time; none is empty, the last few are over most limits."""
    chance, words = random.Random(5), " ".join(SENTENCES).split()
    made = ["Dogs", "ÀÉ ﬁne ½ naïve CAFÉ", "[SEP] </s> <pad> [MASK] <|im_end|>", "犬 🐕 x"]
    while len(made) < count:
        longest = 90 if len(made) > count - 8 else 24
        made.append(" ".join(chance.choices(words, k=chance.randint(1, longest))))
    return made


TEXTS = texts_of_mixed_length()


class Wrong(Exception):
    """The service answered, and not as the reference does."""


@dataclass
class Distance:
    """The largest of what was compared: absolute, and as a share of what is allowed."""

    absolute: float = 0.0
    share: float = 0.0
    where: str = ""

    def add(self, where: str, got: Any, expected: Any) -> None:
        """Raises Wrong."""
        ours, right = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        if ours.shape != right.shape:
            raise Wrong(f"{where}: shape {ours.shape}, not {right.shape}")
        apart = np.abs(ours - right)
        if not apart.size:
            return
        share = float(np.max(apart / (ATOL + RTOL * np.abs(right))))
        if not share <= 1.0:
            place = np.unravel_index(int(np.argmax(apart)), apart.shape)
            raise Wrong(
                f"{where}: {apart.max():.3g} apart at {[int(n) for n in place]}:"
                f" {ours[place]:.6g}, not {right[place]:.6g}"
            )
        self.absolute = max(self.absolute, float(apart.max()))
        if share >= self.share:
            self.share, self.where = share, where


@dataclass(frozen=True)
class Case:
    folder: Folder
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the requests
    count: int = 64  # texts in one request

    @property
    def texts(self) -> list[str]:
        return [*TEXTS[:4], *TEXTS[4 - self.count :]]

    def describe(self) -> str:
        parts = [self.folder.describe()]
        parts += [f"BATCHER_{name.upper()}={value}" for name, value in self.settings.items()]
        return " ".join(parts + [f"{name}={value!r}" for name, value in self.options.items()])


def compare(case: Case, at: Path, http: TestClient) -> Distance:
    """Raises Wrong. ReferenceFails where the reference has no answer."""
    found = Distance()
    info = _get(http, "/info")
    JUDGES[case.folder.task](case, at, http, info, found)
    return found


class ReferenceFails(Exception):
    """The reference cannot load or run this model."""


def reference_of(case: Case, at: Path) -> Any:
    """Raises ReferenceFails."""
    try:
        return REFERENCES[case.folder.task](case, at)
    except Exception as error:  # whatever the library raises
        raise ReferenceFails(f"{type(error).__name__}: {error}") from error


# Vectors


def _dense_reference(case: Case, at: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    model = SentenceTransformer(
        str(at), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )
    if (wanted := case.settings.get("pooling", "auto")) != "auto":
        wanted = {"last": "lasttoken"}.get(wanted, wanted)
        [place] = [n for n, each in enumerate(model) if isinstance(each, Pooling)]
        old: Any = model[place]
        model[place] = Pooling(old.embedding_dimension, wanted)
    _prompt(model, case)
    chain = list(model)
    if isinstance(chain[-1], Normalize):
        chain = chain[:-1]
    bare = SentenceTransformer(
        modules=chain,
        device="cpu",
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
    )
    return bare.eval()


def _prompt(model: Any, case: Case) -> None:
    import json

    model.prompts |= json.loads(case.settings.get("prompts", "{}"))
    if (text := case.settings.get("prompt")) is not None:
        model.prompts["of the setting"] = text
        model.default_prompt_name = "of the setting"


def _encode(model: Any, text: str, options: Mapping[str, Any], **more: Any) -> Any:
    tokenizer, own = model.tokenizer, model.tokenizer.truncation_side
    tokenizer.truncation_side = (options.get("truncation_direction") or own).lower()
    normalize = more.pop("normalize", options.get("normalize", True))
    try:
        return model.encode(
            text,
            prompt_name=options.get("prompt_name"),
            normalize_embeddings=normalize,
            truncate_dim=options.get("dimensions"),
            show_progress_bar=False,
            **more,
        )
    finally:
        tokenizer.truncation_side = own


def _fit(model: Any, info: Mapping[str, Any], run: Callable[[str], object]) -> None:
    """The library fails over the last position of some models, where the service cuts."""
    longest = max(TEXTS, key=len)
    try:
        run(longest)
    except (IndexError, RuntimeError):
        model.max_seq_length = info["max_input_length"]


def _dense(
    case: Case, at: Path, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    model, options, texts = reference_of(case, at), dict(case.options), case.texts
    _fit(model, info, lambda text: _encode(model, text, options))
    expected = np.stack([_encode(model, text, options) for text in texts])
    together = _post(http, "/embed", {"inputs": texts, **options})
    found.add("/embed", together, expected)
    for place in ALONE:
        alone = _post(http, "/embed", {"inputs": texts[place], **options})
        found.add("/embed alone", alone[0], expected[place])
    of_openai = {name: options[name] for name in ("dimensions",) if name in options}
    data = _post(http, "/v1/embeddings", {"model": at.name, "input": texts[:8], **of_openai})[
        "data"
    ]
    right = [_encode(model, text, of_openai) for text in texts[:8]]
    found.add("/v1/embeddings", [each["embedding"] for each in data], right)
    some = [*texts[:6], *texts[-4:]]
    without = {k: v for k, v in options.items() if k not in ("normalize", "dimensions")}
    states = _post(http, "/embed_all", {"inputs": some, **without})
    for text, got in zip(some, states, strict=True):
        right = _encode(model, text, without, normalize=False, output_value="token_embeddings")
        found.add("/embed_all", got, right.numpy())
    cosines = [_encode(model, text, without) for text in [QUERY, *some]]
    inputs = {"source_sentence": QUERY, "sentences": some}
    got = _post(http, "/similarity", {"inputs": inputs, "parameters": without})
    found.add("/similarity", got, np.stack(cosines[1:]) @ cosines[0])
    given = {"normalize_embeddings": True, "show_progress_bar": False}
    query = model.encode_query(QUERY, **given)
    documents = [model.encode_document(text, **given) for text in some]
    _ranked(found, http, some, np.stack(documents) @ query)


def _ranked(found: Distance, http: TestClient, texts: Sequence[str], right: Any) -> None:
    body = {"query": QUERY, "texts": list(texts), "raw_scores": True}
    rows = _post(http, "/rerank", body)
    scores = {row["index"]: row["score"] for row in rows}
    found.add("/rerank", [scores[place] for place in range(len(texts))], right)
    in_order = np.asarray([right[row["index"]] for row in rows])
    if (np.diff(in_order) > ATOL + RTOL * np.abs(in_order[1:])).any():
        raise Wrong("/rerank: another order")


# Weights of words


def _sparse_reference(case: Case, at: Path) -> Any:
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(
        str(at), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )
    _prompt(model, case)
    return model


def _sparse(
    case: Case, at: Path, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    model, options, texts = reference_of(case, at), dict(case.options), case.texts

    def encode(text: str, given: Mapping[str, Any]) -> Any:
        own = model.tokenizer.truncation_side
        model.tokenizer.truncation_side = (given.get("truncation_direction") or own).lower()
        try:
            return model.encode(
                text,
                prompt_name=given.get("prompt_name"),
                convert_to_sparse_tensor=False,
                show_progress_bar=False,
            ).numpy()
        finally:
            model.tokenizer.truncation_side = own

    _fit(model, info, lambda text: encode(text, options))
    expected = np.stack([encode(text, options) for text in texts])
    width = expected.shape[1]
    rows = _post(http, "/embed_sparse", {"inputs": texts, **options})
    found.add("/embed_sparse", [_filled(row, width) for row in rows], expected)
    for place in ALONE:
        [row] = _post(http, "/embed_sparse", {"inputs": texts[place], **options})
        found.add("/embed_sparse alone", _filled(row, width), expected[place])
    given = {"convert_to_sparse_tensor": False, "show_progress_bar": False}
    query = model.encode_query(QUERY, **given).numpy()
    documents = [model.encode_document(text, **given).numpy() for text in texts[:12]]
    _ranked(found, http, texts[:12], np.stack(documents) @ query)


def _filled(row: Sequence[Mapping[str, Any]], width: int) -> Numbers:
    made = np.zeros(width)
    for each in row:
        made[each["index"]] = each["value"]
    return made


# Classifiers


def _cross_reference(case: Case, at: Path) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(
        str(at), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )


def _scores(
    case: Case, at: Path, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    import torch

    model, texts = reference_of(case, at), case.texts
    identity = torch.nn.Identity()

    def predict(query: str, text: str) -> float:
        [score] = model.predict(
            [(query, text)], activation_fn=identity, show_progress_bar=False
        ).reshape(-1)
        return float(score)

    _fit(model, info, lambda text: predict(QUERY, text))
    query = str(case.settings.get("prompt", "")) + QUERY
    expected = np.array([predict(query, text) for text in texts])
    if np.ptp(expected) < 1e-3:
        raise Wrong("the reference tells no text from another: this tests nothing")
    _ranked(found, http, texts, expected)
    for place in ALONE:
        _ranked(found, http, [texts[place]], expected[[place]])
    rows = _post(http, "/rerank", {"query": QUERY, "texts": texts})
    scores = {row["index"]: row["score"] for row in rows}
    squashed = 1 / (1 + np.exp(-expected))
    found.add("/rerank, sigmoid", [scores[n] for n in range(len(texts))], squashed)
    pairs = [[QUERY, text] for text in texts[:5]]
    told = _post(http, "/predict", {"inputs": pairs, "raw_scores": True})
    found.add("/predict", [row[0]["score"] for row in told], expected[:5])


class _Pipeline:
    """transformers' own, whose limit can be set."""

    def __init__(self, task: str, at: Path, **given: Any) -> None:
        import torch
        import transformers

        self.run: Any = transformers.pipeline(
            task, str(at), device=-1, dtype=torch.float32, **given
        )
        self.max_seq_length: int | None = None


def _classes(
    case: Case, at: Path, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    made, texts = reference_of(case, at), case.texts

    def scores(text: Any, function: str | None = None) -> dict[str, float]:
        cut = {"truncation": True, "max_length": info["max_input_length"]}
        told = made.run(text, top_k=None, function_to_apply=function, **cut)
        return {each["label"]: each["score"] for each in told}

    labels = sorted(made.run.model.config.id2label.values())

    def ours(rows: Any) -> list[float]:
        told = {each["label"]: each["score"] for each in rows}
        return [told[label] for label in labels]

    expected = [[row[label] for label in labels] for row in map(scores, texts)]
    rows = _post(http, "/", {"inputs": texts, "parameters": {"top_k": 99}})
    found.add("POST /", [ours(row) for row in rows], expected)
    for place in ALONE:
        [row] = _post(http, "/", {"inputs": texts[place], "parameters": {"top_k": 99}})
        found.add("POST / alone", ours(row), expected[place])
    raw = [[scores(text, "none")[label] for label in labels] for text in texts[:9]]
    body = {"inputs": [[text] for text in texts[:9]], "raw_scores": True}
    found.add("/predict", [ours(row) for row in _post(http, "/predict", body)], raw)
    pairs = [(QUERY, text) for text in texts[:9]]
    raw = [
        [scores({"text": one, "text_pair": other}, "none")[label] for label in labels]
        for one, other in pairs
    ]
    body = {"inputs": [list(pair) for pair in pairs], "raw_scores": True}
    found.add("/predict, pairs", [ours(row) for row in _post(http, "/predict", body)], raw)


def _tags(case: Case, at: Path, http: TestClient, info: Mapping[str, Any], found: Distance) -> None:
    made, texts = reference_of(case, at), case.texts
    made.run.tokenizer.model_max_length = info["max_input_length"]
    short = [text for text in texts if len(text) < 50]
    for strategy in ("none", "simple", "first", "average", "max"):
        try:
            expected = [made.run(text, aggregation_strategy=strategy) for text in short]
        except (ValueError, TypeError) as error:
            raise ReferenceFails(str(error)) from error
        parameters = {"aggregation_strategy": strategy}
        rows = _post(http, "/", {"inputs": short, "parameters": parameters})
        for text, got, right in zip(short, rows, expected, strict=True):
            names = ("entity", "entity_group", "start", "end")
            spans = [[{k: each.get(k) for k in names} for each in told] for told in (got, right)]
            if spans[0] != spans[1]:
                raise Wrong(f"POST / {strategy} of {text!r}: {spans[0]}, not {spans[1]}")
            scores = [[float(each["score"]) for each in told] for told in (got, right)]
            found.add(f"POST /, {strategy}", *scores)


def _get(http: TestClient, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _post(http: TestClient, path: str, body: Mapping[str, Any]) -> Any:
    """Raises Wrong for anything but 200."""
    answer = http.post(path, json=body)
    if answer.status_code != 200:
        raise Wrong(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()


Judge = Callable[[Case, Path, TestClient, Mapping[str, Any], Distance], None]
JUDGES: Mapping[str, Judge] = {
    "embed": _dense,
    "sparse": _sparse,
    "score": _scores,
    "classify": _classes,
    "tag": _tags,
}
REFERENCES: Mapping[str, Callable[[Case, Path], Any]] = {
    "embed": _dense_reference,
    "sparse": _sparse_reference,
    "score": _cross_reference,
    "classify": lambda case, at: _Pipeline("text-classification", at),
    "tag": lambda case, at: _Pipeline("token-classification", at),
}
