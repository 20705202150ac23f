"""One case: made, served, asked, compared. What came of it, in a word and a line."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batcher.errors import RunnerFailed
from loadtests.checks.models.case import Case
from loadtests.checks.models.distance import ReferenceFails, Wrong
from loadtests.checks.models.judge import compare, reference_of
from loadtests.checks.models.served import serving
from loadtests.models import folders
from service.errors import CannotServe

Word = Literal["same", "refused", "wrong", "failed"]


@dataclass(frozen=True)
class Came:
    word: Word
    why: str = ""
    absolute: float = 0.0
    share: float = 0.0  # of what is allowed
    backend: str = ""


def attempt(case: Case) -> Came:
    """`refused` is right where the reference fails, and else a model less; `wrong` and `failed` are
    defects."""
    with tempfile.TemporaryDirectory(prefix="models-") as place:
        at = Path(place)
        try:
            model = folders.make(case.folder, at / "made")
        except Exception as error:  # of the library that saves it
            return Came("failed", f"cannot be made: {type(error).__name__}: {error}")
        try:
            with serving(model, at / "cache", **case.settings) as http:
                facts = http.get("/stats").json()["replicas"][0]["facts"]
                found = compare(case, model, http)
        except (CannotServe, RunnerFailed) as error:
            why = str(error).replace(str(model), "MODEL")
            try:
                reference_of(case, model)
            except ReferenceFails:
                why += " (the reference fails, too)"
            return Came("failed" if "\n" in why else "refused", why)
        except Wrong as error:
            return Came("wrong", str(error), backend=str(facts.get("backend", "")))
        except ReferenceFails as error:
            return Came("failed", f"served, and the reference fails: {error}")
        except Exception as error:  # of the reference as it answers, or of this check
            return Came("failed", f"{type(error).__name__}: {error}")
    return Came("same", found.where, found.absolute, found.share, str(facts["backend"]))
