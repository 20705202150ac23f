"""TorchServe: HTTP and batching in Java, the model in a worker process of Python.

Run, it packs this very file as the model's handler and becomes TorchServe; in TorchServe's worker
`handle` is called.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from loadtests.peers.model import Model, load
from loadtests.peers.options import Options

NAME = "embed"
_model: Model | None = None


def handle(data: list[dict[str, Any]] | None, context: object) -> list[str] | None:
    global _model  # It calls functions of a module, first without data.
    import orjson

    if _model is None:
        _model = load(Options.from_environment())
    if data is None:
        return None
    vectors = _model.embed([row["body"]["inputs"] for row in data])
    encoded = [orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY) for vector in vectors]
    return [one.decode() for one in encoded]


def write_settings(options: Options, folder: Path, management: int, metrics: int) -> Path:
    model = {
        "defaultVersion": True,
        "marName": f"{NAME}.mar",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": options.max_batch,
        "maxBatchDelay": max(1, round(options.max_wait_ms)),  # Whole milliseconds.
        "responseTimeout": 120,
    }
    lines = [
        f"inference_address=http://127.0.0.1:{options.port}",
        f"management_address=http://127.0.0.1:{management}",
        f"metrics_address=http://127.0.0.1:{metrics}",
        "disable_token_authorization=true",
        "disable_system_metrics=true",
        "job_queue_size=4096",
        f"model_store={folder}",
        f"load_models={NAME}.mar",
        f"models={json.dumps({NAME: {'1.0': model}})}",
    ]
    written = folder / "config.properties"
    written.write_text("\n".join(lines) + "\n")
    return written


if __name__ == "__main__":
    from loadtests.servers.launch import free_port

    options = Options.from_environment()
    home = Path(os.environ["PEER_FOLDER"])
    programs = Path(sys.executable).parent
    archive = [str(programs / "torch-model-archiver"), "--model-name", NAME, "--version", "1.0"]
    subprocess.run([*archive, "--handler", __file__, "--export-path", str(home)], check=True)
    settings = write_settings(options, home, free_port(), free_port())
    os.chdir(home)  # It writes logs/ where it is.
    start = [str(programs / "torchserve"), "--start", "--foreground", "--ncs"]
    start += ["--model-store", str(home), "--ts-config", str(settings), "--disable-token-auth"]
    os.execv(start[0], start)
