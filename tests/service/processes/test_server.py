"""A real `python -m service`, from outside: what only a process can show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from service.models.simulated import answers
from service.repository.locate import find_model
from service.tasks.text import TextTokenizer
from tests.service.tiny import make_classifier, read_spec

ROOT = Path(__file__).parents[3]
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEADLINE = 60.0  # seconds; whatever takes this long has failed


def command(*flags: str, module: str = "service") -> list[str]:
    fixed = ["--port", "0", "--drain-delay-ms", "0"]
    return [sys.executable, "-m", module, *fixed, *flags]


class Server:
    """Started, and ready once the banner is there."""

    def __init__(self, *flags: str, module: str = "service", folder: Path = ROOT) -> None:
        self.process = subprocess.Popen(
            command(*flags, module=module),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._heard = threading.Condition()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        self.banner = ""
        assert self.process.stdout is not None
        while "curl" not in self.banner:
            line = self.process.stdout.readline()
            assert line, "\n".join(self.log)
            self.banner += line
        found = re.search(r"http://127.0.0.1:\d+", self.banner)
        assert found is not None
        self.url = found[0]
        self.http = httpx2.Client(base_url=self.url, timeout=DEADLINE)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.log.append(line.rstrip())
                self._heard.notify_all()

    def heard(self, text: str, after: int = 0) -> None:
        """Waits for the log to say it, in a line after the first `after`."""

        def is_there() -> bool:
            return any(text in line for line in self.log[after:])

        with self._heard:
            assert self._heard.wait_for(is_there, DEADLINE), "\n".join(self.log)

    def stats(self) -> Any:
        return self.http.get("/stats").json()

    def worker(self) -> int:
        return int(self.stats()["replicas"][0]["facts"]["pid"])

    def until(self, reached: Any) -> None:
        """Each look is a request; in between the service has the cores. It must not end."""
        deadline = time.monotonic() + DEADLINE
        while not reached():
            assert time.monotonic() < deadline, "\n".join(self.log)
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.02)
                raise AssertionError(f"it ended with {code}")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.close()

    def close(self) -> int:
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            self._listener.join()
            self.http.close()
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.close()


def ends(pid: int) -> bool:
    """Whether the process is gone within the deadline."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], DEADLINE)[0])
    finally:
        os.close(handle)


def simulated(*flags: str) -> Server:
    return Server("--runner", "simulated", *flags)


@contextlib.contextmanager
def loading(*flags: str) -> Iterator[subprocess.Popen[str]]:
    """One that is never ready, and whose worker has begun to load. It does not outlive the test."""
    with subprocess.Popen(
        [*command("--runner", "tests.service.runners:NeverReady"), *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def worker_of(process: subprocess.Popen[str]) -> int:
    """Waits for it to say so."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if found := re.search(r"warming up for ever in (\d+)", line):
            return int(found[1])
        said.append(line)
    raise AssertionError("".join(said))


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """For a service that is not to start."""
    return subprocess.run(
        command(*flags), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE
    )


# The default model, through the real client


@pytest.fixture(scope="module")
def default() -> Iterator[Server]:
    read_spec(find_model(DEFAULT_MODEL))  # sooner than in a process of its own
    flags = ("--dtype", "float32", "--backend", "torch")  # the pages of docs race
    with Server(*flags, "--token-ids", "model") as server:
        yield server
        assert server.end() == 0


@pytest.fixture(scope="module")
def client(default: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{default.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def vectors(client: openai.OpenAI, given: Any, **options: Any) -> np.ndarray[Any, Any]:
    answer = client.embeddings.create(model=DEFAULT_MODEL, input=given, **options)
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return np.array([one.embedding for one in answer.data], np.float32)


def test_the_openai_client_gets_vectors_for_every_input_shape(client: openai.OpenAI) -> None:
    texts = ["A cat sits on the mat.", "Stocks fell.", ""]
    together = vectors(client, texts)
    assert together.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    tokenizer = TextTokenizer.load(read_spec(find_model(DEFAULT_MODEL)))
    ids = [tokenizer.encode(text, truncate=True).tolist() for text in texts]
    np.testing.assert_allclose(vectors(client, ids), together, atol=1e-5)
    np.testing.assert_allclose(vectors(client, ids[0]), together[:1], atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(vectors(client, text)[0], vector, atol=1e-5)


def test_base64_and_float_are_the_same_numbers(client: openai.OpenAI) -> None:
    plain = vectors(client, "hello", encoding_format="float")
    np.testing.assert_array_equal(vectors(client, "hello"), plain)  # base64: its own default


def test_the_openai_client_understands_usage_dimensions_and_models(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="all-MiniLM-L6-v2", input="hello", dimensions=7)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
    assert len(answer.data[0].embedding) == 7
    assert [model.id for model in client.models.list()] == [DEFAULT_MODEL]
    assert client.models.retrieve(DEFAULT_MODEL).id == DEFAULT_MODEL


def test_the_openai_client_understands_the_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("text-embedding-3-small")
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    assert missing.value.request_id == missing.value.body["request_id"]  # type: ignore[index]
    with pytest.raises(openai.BadRequestError, match="at most 2048"):
        vectors(client, ["a"] * 2049)
    with pytest.raises(openai.BadRequestError, match="token 0"):
        vectors(client, [40_000])
    with pytest.raises(openai.BadRequestError, match="384"):
        vectors(client, "a", dimensions=385)


def test_the_curl_of_the_banner_works(default: Server) -> None:
    curl = next(line for line in default.banner.splitlines() if "curl" in line)
    words = shlex.split(curl)
    body = words[words.index("-d") + 1]
    answer = httpx2.post(words[1], content=body, headers=[words[3].split(": ")])
    assert answer.status_code == 200
    assert len(answer.json()["data"][0]["embedding"]) == 384
    for fact in (DEFAULT_MODEL, "cpu", "float32", "384", "256 tokens", "1 of 1", default.url):
        assert fact in default.banner


# The life of the process, with the simulated runner


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with simulated() as made:
        yield made
        assert made.end() == 0


def test_each_caller_gets_the_answer_to_his_own_input(server: Server) -> None:
    texts = [f"text {number}" for number in range(200)]

    async def ask_all() -> list[Any]:
        async with httpx2.AsyncClient(base_url=server.url, timeout=DEADLINE) as http:
            asked = [http.post("/embed", json={"inputs": text}) for text in texts]
            return [answer.json() for answer in await asyncio.gather(*asked)]

    got = asyncio.run(ask_all())
    np.testing.assert_array_equal(np.float32(got)[:, 0], answers(texts))


BAD = [
    b"{",
    b"[" * 100_000,
    b'{"inputs": "\\ud800", "input": "\\ud800", "model": "simulated"}',
    b'{"inputs": NaN, "input": NaN, "model": "simulated"}',
    b'{"input": [], "model": "simulated"}',
    b'{"inputs": []}',
    b'{"inputs": [-1]}',
    b'{"input": [[1], [4000000]], "model": "simulated"}',
    json.dumps({"inputs": ["a"] * 2049}).encode(),
    json.dumps({"input": "w " * 9000, "model": "simulated", "truncate": False}).encode(),
    b'{"inputs": "' + b"x" * (32 << 20) + b'"}',
    b'{"inputs": {"a": 1}}',
]


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_bad_bodies_are_4xx_and_the_worker_lives_on(server: Server, path: str) -> None:
    worker = server.worker()
    for body in BAD:
        answer = server.http.post(path, content=body)
        assert answer.status_code in (400, 413, 422), (body[:40], answer.text)
        assert "error" in answer.json()
        assert answer.headers["x-should-retry"] == "false"
    assert server.worker() == worker
    assert server.http.post("/embed", json={"inputs": "a"}).status_code == 200


def test_a_raw_body_of_an_unknown_length_is_counted(server: Server) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"inputs": "'
        for _ in range(33):
            yield b"x" * (1 << 20)
        yield b'"}'

    assert server.http.post("/embed", content=pieces()).status_code == 413


def test_a_model_that_fails_on_an_input_is_500_and_not_a_number_too(server: Server) -> None:
    for drill in ("fault:raise", "fault:nan"):
        answer = server.http.post("/embed", json={"inputs": drill})
        assert answer.status_code == 500
        assert answer.headers["x-should-retry"] == "false"
    assert server.http.post("/embed", json={"inputs": "a"}).status_code == 200


def test_a_killed_worker_comes_back_and_readiness_with_it(server: Server) -> None:
    worker = server.worker()
    os.kill(worker, signal.SIGKILL)

    def recovered() -> bool:
        replica = server.stats()["replicas"][0]
        return bool(replica["up"] and replica["facts"]["pid"] != worker)

    server.until(recovered)
    assert server.http.get("/health/ready").status_code == 200
    got = server.http.post("/embed", json={"inputs": "a"}).json()
    np.testing.assert_array_equal(np.float32(got), answers(["a"]))
    assert server.stats()["replicas"][0]["restarts"] == {"signal 9": 1}


@pytest.mark.parametrize(
    ("number", "delay"),
    # Ctrl-C does not wait for load balancers.
    [(signal.SIGTERM, "0"), (signal.SIGINT, "600000")],
)
def test_a_signal_under_load_drains_every_accepted_request(number: int, delay: str) -> None:
    accepted = 40
    flags = ["--sim-fixed-ms", "100", "--max-batch-size", "4", "--drain-delay-ms", delay]
    with simulated(*flags) as server:
        worker = server.worker()

        async def load() -> list[httpx2.Response]:
            limits = httpx2.Limits(max_connections=None)
            async with httpx2.AsyncClient(
                base_url=server.url, timeout=DEADLINE, limits=limits
            ) as http:
                asked = [
                    asyncio.ensure_future(http.post("/embed", json={"inputs": f"{number}"}))
                    for number in range(accepted)
                ]
                while (await http.get("/stats")).json()["accepted"] < accepted:
                    pass
                server.process.send_signal(number)
                return await asyncio.gather(*asked)

        answered = asyncio.run(load())
        got = np.float32([answer.json()[0] for answer in answered])
        np.testing.assert_array_equal(got, answers([f"{number}" for number in range(accepted)]))
        assert server.close() == 0
        assert ends(worker)


@pytest.mark.parametrize("engine", ["inline", "process"])
def test_work_that_outlasts_the_drain_is_answered_with_an_error_and_told_by_the_exit_code(
    engine: str,
) -> None:
    with simulated("--drain-timeout-ms", "200", "--engine", engine) as server:
        status: list[int] = []

        def ask() -> None:
            status.append(server.http.post("/embed", json={"inputs": "fault:hang"}).status_code)

        caller = threading.Thread(target=ask)
        caller.start()
        with httpx2.Client(base_url=server.url) as other:
            server.until(lambda: other.get("/stats").json()["running"] == 1)
        server.process.send_signal(signal.SIGTERM)
        caller.join()
        assert status == [503]
        assert server.close() == 5


def test_a_second_signal_ends_at_once_and_takes_the_worker_along() -> None:
    with simulated() as server:
        worker = server.worker()
        hung = httpx2.AsyncClient(base_url=server.url, timeout=DEADLINE)

        async def twice() -> None:
            async with hung:
                asked = asyncio.ensure_future(hung.post("/embed", json={"inputs": "fault:hang"}))
                while (await hung.get("/stats")).json()["running"] < 1:
                    pass
                server.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(server.heard, "new requests are refused")
                while server.process.poll() is None:  # one that follows at once is the same one
                    server.process.send_signal(signal.SIGTERM)
                    with contextlib.suppress(httpx2.HTTPError):
                        await hung.get("/health/live")  # fails once it has ended
                with pytest.raises(httpx2.HTTPError):
                    await asked

        asyncio.run(twice())
        assert server.process.returncode == 128 + signal.SIGTERM
        assert ends(worker)


def test_a_killed_service_leaves_no_worker() -> None:
    with simulated() as server:
        worker = server.worker()
        server.process.kill()
        assert ends(worker)


def test_while_the_model_loads_it_listens_and_says_not_ready_and_a_signal_ends_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with loading("--port", str(port)) as process:
        worker = worker_of(process)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as http:
            assert http.get("/health/live").status_code == 200
            assert http.get("/health/ready").json()["reason"] == "worker 0 is loading the model"
            for answer in (
                http.get("/health/ready"),
                http.post("/embed", json={"inputs": "a"}),
            ):
                assert answer.status_code == 503
                assert answer.headers["retry-after"] in ("1", "2")  # one second, spread out
        process.terminate()
        banner, _ = process.communicate(timeout=DEADLINE)
        assert (process.returncode, banner) == (0, "")  # it was never ready
        assert ends(worker)


def test_a_service_whose_stdout_nobody_reads_serves_all_the_same() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        command("--runner", "simulated"), cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writer)
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if "the banner cannot be printed" in line:
                    break
            process.terminate()
            said.append(process.communicate(timeout=DEADLINE)[1])
            assert process.returncode == 0, said
            assert "the banner cannot be printed" in "".join(said)
        finally:
            process.kill()


# What no worker is needed to find out: test_bad_starts.py.
@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--max-batch-size", "0"], 2, "--max-batch-size='0': "),
        (["--runner", "tests.service.runners:NeverLoads"], 3, "the weights are not there"),
        (["--runner", "tests.service.needs_more:Any"], 3, "needs_more.py, line 3)"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(flags: list[str], code: int, says: str) -> None:
    ended = run(*flags)
    assert ended.returncode == code
    assert ended.stdout == ""
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("batcher: ")]
    assert says in line
    assert ended.stderr.splitlines()[-1] == line
    if says != "the weights are not there":  # that is for its author to mend
        assert "Traceback" not in ended.stderr
    assert "starting" not in ended.stderr


def test_a_model_of_no_certain_task_is_refused_with_the_setting_that_decides(
    tmp_path: Path,
) -> None:
    folder = make_classifier(tmp_path, "bert")
    config = (folder / "config.json").read_text()
    answering = config.replace("ForSequenceClassification", "ForQuestionAnswering")
    (folder / "config.json").write_text(answering)
    ended = run("--model", str(folder))
    assert ended.returncode == 3
    last = ended.stderr.splitlines()[-1]
    assert "config.json: BertForQuestionAnswering: " in last
    assert "BATCHER_TASK=embed" in last


def test_a_port_in_use_is_told_in_one_line(server: Server) -> None:
    ended = run("--runner", "simulated", "--port", server.url.rpartition(":")[2])
    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1].endswith("Address already in use")
