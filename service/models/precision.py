"""Which device a replica runs on, and in which number format. Decisions only; no model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from service.errors import CannotServe

CPUINFO = Path("/proc/cpuinfo")
NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is Arm's name for it
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class DeviceNotFound(CannotServe):
    """BATCHER_DEVICE names what this machine has not."""


def choose_device(wanted: str, cuda_count: int) -> torch.device:
    """The one that a replica was placed on. `auto`, where nobody has placed it: the first CUDA
    device, else the CPU. Raises DeviceNotFound."""
    name = ("cuda:0" if cuda_count else "cpu") if wanted == "auto" else wanted
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceNotFound(f"device {name!r} is not one: write cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceNotFound(f"device {name!r} is not supported: cpu and cuda are")
    if device.type == "cuda" and cuda_count == 0:
        raise DeviceNotFound(f"device {name!r}: torch {torch.__version__} sees no CUDA device")
    if device.type == "cuda" and (device.index or 0) >= cuda_count:
        raise DeviceNotFound(f"device {name!r}: this machine has {cuda_count} CUDA device(s)")
    return device


def choose_dtype(wanted: str, device_type: str, native_bf16: bool) -> torch.dtype:
    """auto: bfloat16 where it is native, else float16 on CUDA and float32 on a CPU."""
    if wanted == "auto":
        if native_bf16:
            return torch.bfloat16
        return torch.float16 if device_type == "cuda" else torch.float32
    if wanted not in DTYPES:
        raise ValueError(f"dtype {wanted!r} is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[wanted]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def full_name(device: torch.device) -> str:
    """The kind of hardware, whichever of several it is: `cuda (NVIDIA H200)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    try:
        return f"cpu ({cpu_model(CPUINFO.read_text())})"
    except OSError:
        return "cpu"


def cpu_model(cpuinfo: str) -> str:
    """The first model name in the text of /proc/cpuinfo; Arm's has none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "unnamed"


def cpu_instructions() -> str:
    """Changes with the instructions that this machine has; empty: it does not say. A virtual
    machine may have fewer of them than another with a CPU of the same name."""
    try:
        return instructions_of(CPUINFO.read_text())
    except OSError:
        return ""


def instructions_of(cpuinfo: str) -> str:
    """A digest of the first list of them in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return hashlib.sha256(" ".join(sorted(value.split())).encode()).hexdigest()[:16]
    return ""


def has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        # Compute capability 8: torch's own check also says yes where bf16 is emulated.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        return cpu_has_bf16(CPUINFO.read_text())
    except OSError:
        return False  # no Linux: float32 is always right


def cpu_has_bf16(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo names AVX512-BF16, AMX-BF16 or Arm's bf16."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return not NATIVE_BF16.isdisjoint(value.split())
    return False
