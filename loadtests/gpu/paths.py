"""The ways to run the model that are compared, by the settings that choose them."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.servers.launch import ROOT, python_path

REFERENCE = "torch float32"
PATHS: Mapping[str, Mapping[str, str]] = {
    REFERENCE: {"backend": "torch", "dtype": "float32"},
    "torch bfloat16": {"backend": "torch", "dtype": "bfloat16"},
    "torch float16": {"backend": "torch", "dtype": "float16"},
    "torch compiled bfloat16": {"backend": "torch", "dtype": "bfloat16", "compile": "on"},
    "onnx float32": {"backend": "onnx", "dtype": "float32"},
    "onnx float16": {"backend": "onnx", "dtype": "float16"},
}
LEAST_COSINE = {"float32": 0.9999}  # TF32 products round to ten bits.
HALF_COSINE = 0.999


def available(on_gpu: bool) -> list[str]:
    """Those that can be tried here. A CPU has no float16 worth the time."""
    has_onnx = importlib.util.find_spec("onnxruntime") is not None
    return [
        name
        for name, settings in PATHS.items()
        if (has_onnx or settings["backend"] != "onnx") and (on_gpu or "float16" not in name.split())
    ]


def is_compiled(name: str) -> bool:
    return "compile" in PATHS[name]


def least_cosine(name: str) -> float:
    return LEAST_COSINE.get(PATHS[name]["dtype"], HALF_COSINE)


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Of a child: the service's variables, and where the project and its wheels are."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    named = {f"BATCHER_{name.upper()}": str(value) for name, value in settings.items()}
    return inherited | {"PYTHONPATH": python_path()} | named


def measure(
    settings: Mapping[str, object], arguments: Sequence[str], log: Path, seconds: float
) -> str:
    """Empty, or why there is nothing: the last line of what it said."""
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "loadtests.gpu.forward", *arguments],
                cwd=ROOT,
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return f"took more than {seconds:.0f} s"
    lines = log.read_text(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit {done.returncode}")
