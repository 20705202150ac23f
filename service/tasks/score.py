"""Relevance: a query and a document in, one logit out, as a cross-encoder reads them. Such a model
is a classifier with one label, so one text may be asked for, too."""

from __future__ import annotations

from typing import ClassVar

from service.tasks.classify import Classify


class Score(Classify):
    name: ClassVar[str] = "score"
