"""What the service answers beside what the reference library answers, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from loadtests.checks.models import classifiers, images, vectors
from loadtests.checks.models.case import Case
from loadtests.checks.models.distance import Distance, ReferenceFails
from loadtests.checks.models.served import get

Judge = Callable[[Case, Any, TestClient, Mapping[str, Any], Distance], None]
"""`Any`: the reference's model. The mapping: what /info says. Raises Wrong."""


def compare(case: Case, at: Path, http: TestClient) -> Distance:
    """Raises Wrong. ReferenceFails where the reference has no answer."""
    found = Distance()
    JUDGES[case.folder.task](case, reference_of(case, at), http, get(http, "/info"), found)
    return found


def reference_of(case: Case, at: Path) -> Any:
    """Raises ReferenceFails."""
    try:
        return REFERENCES[case.folder.task](case, at)
    except Exception as error:  # whatever the library raises
        raise ReferenceFails(f"{type(error).__name__}: {error}") from error


JUDGES: Mapping[str, Judge] = {
    "embed": vectors.dense,
    "sparse": vectors.sparse,
    "score": classifiers.scores,
    "classify": classifiers.classes,
    "tag": classifiers.tags,
    "image-classify": images.classes,
    "image-embed": images.both,
}
REFERENCES: Mapping[str, Callable[[Case, Path], Any]] = {
    "embed": vectors.dense_reference,
    "sparse": vectors.sparse_reference,
    "score": classifiers.cross_reference,
    "classify": classifiers.classes_reference,
    "tag": classifiers.tags_reference,
    "image-classify": images.classes_reference,
    "image-embed": images.both_reference,
}
