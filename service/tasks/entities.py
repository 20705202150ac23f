"""From the labels of tokens to the entities of a text, step by step as TokenClassificationPipeline
of transformers does it. Pure; numbers are float32 throughout, as there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Strategy = Literal["none", "simple", "first", "average", "max"]
Entity = dict[str, Any]
"""`entity` or `entity_group`, `score`, `word`, `start`, `end`; without grouping also `index`."""

JoinWords = Callable[[list[str]], str]
"""From tokens to a text, as the model's tokenizer decodes them."""


class Piece(NamedTuple):
    """A token that is not a special one."""

    place: int  # among all tokens of its window
    word: str
    start: int  # characters of the text
    end: int
    continues: bool  # the word of the token before it
    scores: Scores  # one for each label


def softmax(logits: NDArray[np.float32]) -> Scores:
    """Of each row."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Scores = powers / powers.sum(axis=-1, keepdims=True)
    return scores


def entities_of(
    pieces: Sequence[Piece],
    labels: Sequence[str],
    strategy: Strategy,
    ignored: Sequence[str],
    join: JoinWords,
) -> list[Entity]:
    """Of one window, in their order."""
    if strategy in ("none", "simple"):
        found = [_token(piece, labels) for piece in pieces]
    else:
        found = [_word(word, labels, strategy, join) for word in _words(pieces)]
    if strategy != "none":
        found = [_group(group, join) for group in _alike(found)]
    key = "entity" if strategy == "none" else "entity_group"
    return [entity for entity in found if entity[key] not in ignored]


def merged(entities: Sequence[Entity]) -> list[Entity]:
    """Of windows that overlap: of two entities that do, the longer one, else the likelier."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: Entity) -> tuple[int, float]:
    return entity["end"] - entity["start"], float(entity["score"])


def _token(piece: Piece, labels: Sequence[str]) -> Entity:
    best = int(piece.scores.argmax())
    return {
        "entity": labels[best],
        "score": piece.scores[best],
        "index": piece.place,
        "word": piece.word,
        "start": piece.start,
        "end": piece.end,
    }


def _words(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    word: list[Piece] = []
    for piece in pieces:
        if word and not piece.continues:
            yield word
            word = []
        word.append(piece)
    if word:
        yield word


def _word(
    word: Sequence[Piece], labels: Sequence[str], strategy: Strategy, join: JoinWords
) -> Entity:
    if strategy == "first":
        scores = word[0].scores
    elif strategy == "max":
        scores = max(word, key=lambda piece: piece.scores.max()).scores
    else:
        scores = np.nanmean(np.stack([piece.scores for piece in word]), axis=0)
    best = int(scores.argmax())
    return {
        "entity": labels[best],
        "score": scores[best],
        "word": join([piece.word for piece in word]),
        "start": word[0].start,
        "end": word[-1].end,
    }


def _alike(entities: Sequence[Entity]) -> Iterator[list[Entity]]:
    """Neighbours of one tag, unless the later one begins an entity (`B-`)."""
    group: list[Entity] = []
    for entity in entities:
        begins, tag = _tag(entity["entity"])
        if group and (begins or tag != _tag(group[-1]["entity"])[1]):
            yield group
            group = []
        group.append(entity)
    if group:
        yield group


def _tag(label: str) -> tuple[bool, str]:
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _group(group: Sequence[Entity], join: JoinWords) -> Entity:
    return {
        "entity_group": group[0]["entity"].split("-", 1)[-1],
        "score": np.mean([entity["score"] for entity in group]),
        "word": join([entity["word"] for entity in group]),
        "start": group[0]["start"],
        "end": group[-1]["end"],
    }
