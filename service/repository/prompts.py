"""The prompts that the settings give a model, beside those of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from service.repository.json_files import ModelNotSupported
from service.repository.spec import EncoderSpec


def with_prompts(spec: EncoderSpec, prompt: str | None, named: Mapping[str, str]) -> EncoderSpec:
    """`prompt`: the default one's text; None: it is the model's own, by its name. `named` win over
    the model's own of these names. Raises ModelNotSupported."""
    if prompt is None and not named:
        return spec
    if spec.task == "tag":
        raise ModelNotSupported(
            "BATCHER_PROMPT and BATCHER_PROMPTS are not for a token classifier: the prompt would"
            " have labels, too"
        )
    if not spec.takes_prompts:
        raise ModelNotSupported(
            "BATCHER_PROMPT and BATCHER_PROMPTS are not for this model: its pooling leaves them out"
        )
    prompts, default = {**spec.prompts, **named}, spec.default_prompt_name
    if prompt is not None:
        default = next((name for name, text in named.items() if text == prompt), None)
    else:
        prompt = spec.prompt if default is None else prompts[default]
    return replace(spec, prompt=prompt, prompts=prompts, default_prompt_name=default)
