"""What a model's files say of the texts that it takes and of the sizes of its vectors: prompts, the
end that is cut off, Matryoshka dimensions. Reads JSON only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from service.repository.json_files import ModelNotSupported, read_object


def read_prompts(folder: Path, *, embeds: bool) -> tuple[dict[str, str], str | None]:
    """By name, and the name of the default one, as sentence-transformers reads them: a model that
    embeds has a query and a document prompt, empty unless its files say otherwise. Raises
    ModelNotSupported."""
    file = folder / "config_sentence_transformers.json"
    config = read_object(file, optional=True)
    named, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(named, dict):
        raise ModelNotSupported(f"{file}: prompts are not named")
    prompts = {"query": "", "document": ""} if embeds else {}
    prompts |= {str(name): str(text or "") for name, text in named.items()}
    if default is not None and str(default) not in prompts:
        raise ModelNotSupported(f"{file}: default_prompt_name {default!r} is not among its prompts")
    return prompts, default


def truncation_side(tokenizer_config: Mapping[str, Any], encoder: Path) -> Literal["left", "right"]:
    side = tokenizer_config.get("truncation_side", "right")
    if side not in ("left", "right"):
        file = encoder / "tokenizer_config.json"
        raise ModelNotSupported(f"{file}: truncation_side is {side!r}, not left or right")
    return "left" if side == "left" else "right"


def matryoshka_of(config: Mapping[str, Any], file: Path) -> tuple[int, ...]:
    """The sizes that config.json allows, under the name that Jina's models and vLLM give them."""
    sizes = config.get("matryoshka_dimensions") or []
    if not isinstance(sizes, list) or not all(type(n) is int and n > 0 for n in sizes):
        raise ModelNotSupported(f"{file}: matryoshka_dimensions is not a list of sizes")
    return tuple(sizes)
