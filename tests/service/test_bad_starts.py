"""What cannot start: one line that says what to change, the right exit code, and no traceback.

Without a process wherever none is needed; test_server.py and test_frontends.py have real ones.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from service import main as launch
from service.placement.cuda import Gpus
from service.processes.exit_codes import BAD_SETTING, NO_MODEL, NO_PORT

NO_GPU = "this machine has no CUDA device"
FILES = {
    "empty/README": "",
    "broken/config.json": "{",
    "list/config.json": "[]",
    "decoder/config.json": '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
    "no_words/config.json": '{"architectures": ["BertModel"], "model_type": "bert"}',
    "nothing.bin": "",
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """In an own folder with FILES, with the signal handlers put back."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("service.placement.cuda.find", lambda: Gpus())
    monkeypatch.setattr("service.main.start_logging", lambda options: None)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def ends(
    arguments: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> tuple[int, str]:
    """The exit code and the one line."""
    try:
        code: object = launch.main([*(["--port", "0"]), *arguments.split()])
    except SystemExit as leave:  # of argparse
        code = leave.code
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert line.startswith("batcher: ")
    assert printed.out == ""
    assert "Traceback" not in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert isinstance(code, int)
    return code, line.removeprefix("batcher: ")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        # Flags
        ("--colour red", BAD_SETTING, "unrecognized arguments: --colour"),
        ("red", BAD_SETTING, "unrecognized arguments"),
        ("--port", BAD_SETTING, "argument --port: expected one argument"),
        ("--port=http", BAD_SETTING, "--port='http': must be a whole number (port to listen on"),
        ("--port=65536", BAD_SETTING, "--port='65536': must be at most 65535 "),
        ("--max-batch-size=0", BAD_SETTING, "--max-batch-size='0': must be at least 1 "),
        ("--max-batch-size=2.5", BAD_SETTING, "must be a whole number "),
        ("--max-wait-ms=-1", BAD_SETTING, "--max-wait-ms='-1': must be at least 0 "),
        ("--max-wait-ms=long", BAD_SETTING, "--max-wait-ms='long': must be a number "),
        ("--min-cosine=2", BAD_SETTING, "must be at most 1 "),
        ("--share-equal=maybe", BAD_SETTING, "must be true or false "),
        ("--dtype=int4", BAD_SETTING, "must be 'auto', 'float32', 'bfloat16', 'float16' or 'int8'"),
        ("--threads=many", BAD_SETTING, "must be a whole number or 'auto' "),
        ("--frontends=65", BAD_SETTING, "must be at most 64 or 'auto' "),
        ("--runner=magic", BAD_SETTING, "or package.module:Name"),
        ("--device=tpu", BAD_SETTING, "cuda:0,cuda:1"),
        ("--log-level=loud", BAD_SETTING, "must be 'debug', 'info', 'warning' or 'error' "),
        ("--frontends=2 --engine=inline", BAD_SETTING, "BATCHER_ENGINE='inline': "),
        # Models
        ("--model /no/such/folder", NO_MODEL, "'/no/such/folder': there is no such folder"),
        ("--model empty", NO_MODEL, "'empty': the folder has no config.json"),
        ("--model ./nothing.bin", NO_MODEL, "'./nothing.bin': there is no such folder"),
        ("--model broken", NO_MODEL, "broken/config.json: cannot be read: "),
        ("--model list", NO_MODEL, "list/config.json: not a JSON object"),
        ("--model decoder", NO_MODEL, "decoder/config.json: LlamaForCausalLM: "),
        ("--model no_words", NO_MODEL, "the file has no vocab_size: not a model of texts"),
        (
            "--model no-such/model",
            NO_MODEL,
            "of that name, not in the local cache, hub: ",
        ),
        ("--task classify", NO_MODEL, "BATCHER_TASK=classify needs a text classifier"),
        ("--task predict", NO_MODEL, "BATCHER_TASK=predict needs a runner of your own"),
        # Runners and devices
        ("--runner no_such_module:Runner", NO_MODEL, "there is no module no_such_module, neither"),
        ("--device cuda", NO_MODEL, f"BATCHER_DEVICE=cuda: there is no device 'cuda:0': {NO_GPU}"),
        ("--replicas 1000000", NO_MODEL, "too little memory on cpu: 1000000 replicas need"),
        # Addresses
        ("--host 127..0.0.1", BAD_SETTING, "BATCHER_HOST='127..0.0.1': must be an address or a"),
        ("--unix-socket /no/x", NO_PORT, "cannot listen on /no/x: No such file or directory"),
        ("--unix-socket nothing.bin", NO_PORT, "the file exists and is not a socket"),
        (f"--unix-socket {'a' * 108}", BAD_SETTING, "must have at most 107 bytes"),
        ("--tls-key nothing.bin", BAD_SETTING, "TLS_KEY='nothing.bin': needs BATCHER_TLS_CERT"),
        ("--tls-cert no.pem", BAD_SETTING, "TLS_CERT='no.pem': cannot be read: No such file"),
        ("--tls-cert nothing.bin", BAD_SETTING, "TLS_CERT='nothing.bin': no certificate and key"),
        ("--root-path /v1", BAD_SETTING, "BATCHER_ROOT_PATH='/v1': the service has a route /v1/"),
        ("--host 192.0.2.1", NO_PORT, "cannot listen on 192.0.2.1:0: Cannot assign requested"),
    ],
)
def test_a_wrong_value_ends_in_one_line(
    arguments: str,
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended, line = ends(arguments, capsys, caplog)
    assert (ended, says in line) == (code, True), line


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"BATCHER_PROT": "80"}, "BATCHER_PROT='80': there is no such setting"),
        ({"BATCHER_MAX_WAIT": "5"}, "BATCHER_MAX_WAIT='5': there is no such setting"),
        ({"BATCHER_APIKEY": "hush"}, "BATCHER_APIKEY=(hidden): there is no such setting"),
        ({"BATCHER_API_KEY": ""}, "BATCHER_API_KEY is set but empty"),
        ({"BATCHER_API_KEY": "a,,b"}, "BATCHER_API_KEY=(hidden): must not contain an empty key"),
        ({"BATCHER_CACHE_BYTES": "1e9"}, "BATCHER_CACHE_BYTES='1e9': must be a whole number"),
        ({"BATCHER_PROMPTS": "[1]"}, "BATCHER_PROMPTS='[1]': must be a JSON object of texts, such"),
        ({"BATCHER_REQUEST_TIMEOUT_MS": "nan"}, "BATCHER_REQUEST_TIMEOUT_MS='nan': must be a numb"),
    ],
)
def test_a_wrong_variable_ends_in_one_line(
    variables: Mapping[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, line = ends("", capsys, caplog)
    assert (code, line.startswith(says)) == (BAD_SETTING, True), line


def test_a_port_in_use_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, line = ends(f"--port {port}", capsys, caplog)
    assert (code, line) == (NO_PORT, f"cannot listen on 127.0.0.1:{port}: Address already in use")
