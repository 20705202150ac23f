"""The files of calls: the client that each has, its environment, and the models that it asks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.clients.environments import ENVIRONMENTS, HERE, Environment

SECONDS = 300.0
_SEES = ("classify", "tag", "nli", "image-classify", "image-embed")


@dataclass(frozen=True, slots=True)
class Client:
    file: str
    packages: Sequence[str]
    environment: Environment
    models: Sequence[str] = ("embed",)

    @property
    def versions(self) -> str:
        """Of its packages, as they are pinned."""
        if self.environment.name == "node":
            pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
        else:
            pinned = dict(re.findall(r"^(\S+)==(\S+)$", self.environment.wanted.read_text(), re.M))
        return ", ".join(f"{package} {pinned[package]}" for package in self.packages)

    def run(self, urls: Mapping[str, str], *calls: str) -> list[dict[str, Any]]:
        """What the calls of the file told; none named: all."""
        done = start(self.environment, self.file, urls, *calls)
        assert done.returncode == 0, f"{self.file}\n{done.stdout}\n{done.stderr}"
        said = [line for line in done.stdout.splitlines() if line.startswith('{"call":')]
        return [json.loads(line) for line in said]


def start(
    environment: Environment, file: str, urls: Mapping[str, str], *calls: str
) -> subprocess.CompletedProcess[str]:
    if environment.name == "node":  # it finds packages beside the file
        for script in (HERE / "calls").glob("*.mjs"):
            shutil.copy(script, environment.folder)
    return subprocess.run(
        [*environment.command, str(environment.calls / file), json.dumps(urls), *calls],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=quiet_environment(),
    )


def quiet_environment() -> dict[str, str]:
    """No key, no proxy and no telemetry: all that a client reaches is the server of the test."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "ANONYMIZED_TELEMETRY": "False",
        "LANGSMITH_TRACING": "false",
        "PYTHONWARNINGS": "ignore",
    }


_FRAMEWORKS, _NEWEST, _NODE = (ENVIRONMENTS[name] for name in ("frameworks", "newest", "node"))
CLIENTS = (
    Client("openai_python.py", ["openai"], _NEWEST),
    Client("huggingface_hub_calls.py", ["huggingface-hub"], _NEWEST, ("embed", *_SEES)),
    Client("cohere_calls.py", ["cohere"], _NEWEST, ("embed", "score")),
    Client("litellm_calls.py", ["litellm"], _NEWEST),
    Client("triton_http.py", ["tritonclient"], _NEWEST, ("embed", "classify")),
    Client(
        "langchain.py",
        ["langchain-openai", "langchain-huggingface", "langchain-cohere", "langchain-ollama"],
        _FRAMEWORKS,
    ),
    Client(
        "llama_index_calls.py",
        [
            "llama-index-embeddings-openai-like",
            "llama-index-embeddings-text-embeddings-inference",
            "llama-index-postprocessor-tei-rerank",
        ],
        _FRAMEWORKS,
    ),
    Client(
        "haystack_calls.py",
        ["haystack-ai", "huggingface-api-haystack", "cohere-haystack"],
        _FRAMEWORKS,
    ),
    Client("chroma.py", ["chromadb"], _FRAMEWORKS),
    Client("infinity.py", ["infinity-client"], _FRAMEWORKS, ("embed", "classify")),
    Client("ollama_python.py", ["ollama"], _FRAMEWORKS),
    Client("openai_node.mjs", ["openai"], _NODE),
    Client("langchain_js.mjs", ["@langchain/openai", "@langchain/cohere"], _NODE),
    Client("huggingface_js.mjs", ["@huggingface/inference"], _NODE, ("embed", *_SEES)),
    Client(
        "vercel.mjs", ["ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/cohere"], _NODE
    ),
    Client(
        "other_node.mjs",
        ["@chroma-core/huggingface-server", "@chroma-core/openai", "cohere-ai", "ollama"],
        _NODE,
    ),
)
