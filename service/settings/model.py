"""The settings of the model: which it is, what it is for, and what runs it."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from service.environment import list_of_names, named_texts

TextTask = Literal["embed", "sparse", "classify", "score", "tag"]


class ModelSettings(BaseSettings):
    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        description="the model: a Hugging Face id or a local folder",
    )
    served_model_names: Annotated[str | None, AfterValidator(list_of_names)] = Field(
        None,
        min_length=1,
        description="names by which clients may ask for the model, separated by commas: /v1/models"
        " lists all, answers carry the first; unset: the model's id, or folder",
    )
    strict_model_name: bool = Field(
        False,
        description="refuse a request for any other model name with 404; otherwise every name is"
        " accepted, because many clients always send a fixed one",
    )
    revision: str | None = Field(
        None,
        min_length=1,
        description="commit, branch or tag of the model on the Hugging Face hub; unset: the newest",
    )
    runner: str = Field(
        "transformers",
        pattern=r"^(transformers|simulated|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="what runs the model: transformers, simulated (no model; for load tests), or"
        " package.module:Name, a class or function of your own",
    )
    task: Literal["auto", TextTask, "image-classify", "image-embed", "predict"] = Field(
        "auto",
        description="what the model does. auto: as the model's files say, refused if they are"
        " ambiguous; for a runner of your own, a function means predict, and a class also embed if"
        " it returns vectors",
    )
    pooling: Literal[
        "auto", "mean", "cls", "last", "max", "mean_sqrt_len_tokens", "weightedmean"
    ] = Field(
        "auto",
        description="how the token vectors of an embedding model are combined into one. auto: as"
        " the model's files say; set it only if they do not say",
    )
    prompt: str | None = Field(
        None,
        min_length=1,
        description="text that goes before every input, and before the query of a cross-encoder,"
        " unless a request names another prompt; unset: the model's own default prompt, if it has"
        " one",
    )
    prompts: Annotated[str | None, AfterValidator(named_texts)] = Field(
        None,
        min_length=1,
        description='prompts that requests may name, as JSON: {"query": "query: "}. They win over'
        " those of the model's files",
    )
    trust_remote_code: bool = Field(
        False,
        description="run Python code that comes with the model's files, with all the rights of"
        " this service; otherwise such a model is refused",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|(cpu|cuda(:\d+)?)(,(cpu|cuda(:\d+)?))*)$",
        description="auto (every CUDA device, otherwise the CPU), cpu, cuda, or a list such as"
        " cuda:0,cuda:1",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="number format of the model. auto: bfloat16 where the device supports it,"
        " otherwise float16 on CUDA and float32 on a CPU; int8 needs the backend onnx",
    )
    backend: Literal["auto", "torch", "onnx", "openvino", "reference"] = Field(
        "auto",
        description="library that runs the model. auto: the fastest of those installed, measured"
        " at the first start",
    )
    compile: bool = Field(
        False, description="compile the model with torch.compile at start (backend torch only)"
    )
    min_cosine: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None,
        ge=0,
        le=1,
        description="lowest cosine similarity to float32 that vectors in a reduced precision may"
        " have, from 0 to 1; parts of the model run in float32 where it is lower. Classifiers have"
        " fixed bounds instead",
    )

    @property
    def runner_is_own(self) -> bool:
        """It is code of the user's own."""
        return ":" in self.runner

    @property
    def served_names(self) -> tuple[str, ...]:
        """Empty: as the model is called."""
        names = self.served_model_names
        return () if names is None else tuple(map(str.strip, names.split(",")))

    @property
    def named_prompts(self) -> dict[str, str]:
        named: dict[str, str] = json.loads(self.prompts) if self.prompts is not None else {}
        return named
