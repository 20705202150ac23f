"""The CUDA devices of this machine, as torch sees them. The frontend asks a child, which ends at
once: neither torch nor a CUDA context may stay in the process that serves.

The child writes one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_TRACES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-caps", "/dev/dxg", "/dev/kfd")
_CHILD = f"from {__name__} import _tell; _tell()"
_PATIENCE = 120.0  # seconds; torch may come from a cold disk


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    free: int  # bytes
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Gpus:
    """In the order of their numbers."""

    each: tuple[Gpu, ...] = ()
    why: str = "this machine has no CUDA device"  # where there is none


def find(traces: Sequence[str] = _TRACES) -> Gpus:
    """Costs nothing where there is no driver, else the import of torch in another process."""
    if not any(Path(trace).exists() for trace in traces):
        return Gpus()
    try:
        asked = subprocess.run(
            # Not -m, which would look for the module in the working folder first.
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path}; {_CHILD}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
            text=True,
        )
        return read(asked.stdout)
    except subprocess.TimeoutExpired:
        return Gpus(why=f"listing the CUDA devices took more than {_PATIENCE:.0f} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or f"exit code {error.returncode}").splitlines()[-1]
        return Gpus(why=f"the CUDA devices cannot be listed: {last}")
    except OSError as error:
        return Gpus(why=f"the CUDA devices cannot be listed: {error}")


def read(output: str) -> Gpus:
    """What the child has written; before its line, torch may have written others."""
    try:
        told = json.loads(output.strip().splitlines()[-1])
        each = tuple(Gpu(**gpu) for gpu in told["gpus"])
        return Gpus(each, str(told["why"]))
    except (IndexError, ValueError, TypeError, KeyError):
        return Gpus(why="the CUDA devices cannot be listed: the output of the query is not valid")


def _tell() -> None:
    import torch

    gpus = [_about(number) for number in range(torch.cuda.device_count())]
    why = f"torch {torch.__version__} sees no CUDA device"
    print(json.dumps({"gpus": [asdict(gpu) for gpu in gpus], "why": why}))


def _about(number: int) -> Gpu:
    import torch

    from service.placement.nvml import free_memory

    about = torch.cuda.get_device_properties(number)
    uuid = str(getattr(about, "uuid", ""))
    free = free_memory(uuid) if uuid else None
    # torch's own way opens a context, which takes time and half a gigabyte, until this ends.
    return Gpu(about.name, torch.cuda.mem_get_info(number)[0] if free is None else free, uuid)
