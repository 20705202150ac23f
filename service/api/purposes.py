"""What a text is for, as other services' clients say it, and which of the model's prompts that is.

A model that has no prompt for it is given the text as without: it knows no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_DOCUMENT = ("document", "passage", "corpus")  # as sentence-transformers looks for them

# The names that prompts for each have, in the words of sentence-transformers.
_PROMPTS: Mapping[str, Sequence[str]] = {
    "query": ("query",),  # NVIDIA's and Voyage's
    "passage": _DOCUMENT,
    "document": _DOCUMENT,
    "search_query": ("query",),  # Cohere's
    "search_document": _DOCUMENT,
    "classification": (),
    "clustering": (),
    "retrieval.query": ("query",),  # Jina's
    "retrieval.passage": _DOCUMENT,
    "separation": ("clustering",),
    "text-matching": ("sts",),
}


def prompt_for(purpose: str | None, there: Iterable[str]) -> str | None:
    """The name of the prompt: the purpose itself, or one that means it. None: there is none."""
    if purpose is None:
        return None
    by_name = {name.lower(): name for name in there}
    wanted = (purpose.lower(), *_PROMPTS.get(purpose, ()))
    return next((by_name[name] for name in wanted if name in by_name), None)
