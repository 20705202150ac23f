"""What the planner (`python -m service plan`) predicts for the settings that were measured."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.servers.launch import ROOT

PLAN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """At one rate (infinite: the queue grows, or too many are refused), and the highest rate within
    the target, if it names one."""

    p95_ms: float
    limit: float | None


def predict(
    settings: Mapping[str, str],
    size: int,
    tokens: int | None,
    lengths: Sequence[int],
    rate: float,
    target_ms: float,
) -> Prediction | str:
    """Of one replica with these settings, or in one line why there is no prediction.

    The planner reads the same variables and the same saved cost model as the service. `lengths`:
    tokens of some of the texts; none: it assumes what the profile was measured with.
    """
    command = [sys.executable, "-m", "service", "plan", "--json", "--replicas=1"]
    command += [f"--rate={rate:.6g}", f"--p95-ms={target_ms:g}", f"--max-batch-size={size}"]
    command += [f"--max-batch-tokens={tokens}"] if tokens else []
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    with tempfile.TemporaryDirectory(prefix="loadtests-") as folder:
        if lengths:
            file = Path(folder, "lengths.txt")
            file.write_text("\n".join(map(str, lengths)) + "\n")
            command.append(f"--lengths={file}")
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=inherited | {"PYTHONPATH": str(ROOT)} | dict(settings),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PLAN_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"the planner took over {PLAN_SECONDS:g} s"
    return read(done.stdout, done.stderr)


def read(output: str, errors: str) -> Prediction | str:
    """From the planner's JSON; its p95 is null where too many get no answer."""
    try:
        said = json.loads(output)
    except ValueError:
        lines = errors.strip().splitlines()
        return lines[-1] if lines else "the planner gave no answer"
    if "p95_ms" not in said:
        return str(said.get("reason", "the planner named no p95"))
    p95 = said["p95_ms"]
    return Prediction(float("inf" if p95 is None else p95), said.get("rate_within_target"))
