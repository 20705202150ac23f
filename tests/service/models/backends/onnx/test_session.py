"""The exported graph's answers against torch's, on tiny random models; and who is chosen."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from service.cache.profiles import content_of
from service.models.backends import Backend, BackendNotAvailable, Place
from service.models.config import ModelConfig, RunnerConfig
from service.placement.replica_count import Placement
from service.repository.spec import EncoderSpec
from tests.service.tiny import TINY_TEXTS, make_tiny, read_spec

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import torch
from safetensors.torch import load_file, save_file

from service.models.backends import accuracy as guarded
from service.models.backends import choose as choice
from service.models.backends import extras as packages
from service.models.backends.accuracy import Opened, TooInaccurate
from service.models.backends.choose import open_backend
from service.models.backends.onnx import export, openvino
from service.models.backends.onnx.int8 import block_of, per_channel, smoothing, weight_bits
from service.models.backends.onnx.session import OnnxBackend, choose_onnx_dtype, open_onnx
from service.models.backends.race import ALONE, SHORT
from service.models.backends.torch.eager import TorchBackend, load
from service.models.backends.torch.packed import PackedBackend
from service.models.encoder import EncoderRunner
from service.models.measures import Directions

CPU = Place("cpu", "cpu (Chip)", 1)
WITH_BFLOAT16 = Place("cpu", "cpu (Chip)", 1, native_bf16=True)
GPU = Place("cuda:0", "cuda (Chip)", 1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), "bert", "mean", normalize=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


def asked(folder: Path, cache: Path | str = "", **config: Any) -> ModelConfig:
    given = {"dtype": "float32", "backend": "onnx"} | config
    return ModelConfig(str(folder), cache_dir=str(cache), **given)


def batch(*lengths: int) -> list[NDArray[np.int32]]:
    draw = np.random.default_rng(3)
    # From 0: the padding id may stand in a text, too.
    return [draw.integers(0, 9, length, dtype=np.int32) for length in lengths]


BATCHES = (batch(5), batch(4, 4, 4), batch(9, 1, 4, 9, 2), batch(*range(15, 0, -1)))


def exact(spec: EncoderSpec) -> TorchBackend:
    cpu = torch.device("cpu")
    return TorchBackend(load(spec, cpu, torch.float32), spec, cpu)


@pytest.mark.parametrize(
    ("kind", "pooling", "normalize"),
    [("bert", "mean", True), ("roberta", "cls", False), ("bert", "lasttoken", True)],
)
def test_the_graph_answers_as_torch_does_in_every_shape(
    tmp_path: Path, kind: str, pooling: str, normalize: bool
) -> None:
    spec = read_spec(make_tiny(tmp_path, kind, pooling, normalize=normalize))
    backend = open_onnx(asked(spec.folder), spec, CPU, print)
    reference = exact(spec)
    for sequences in BATCHES:
        np.testing.assert_allclose(
            backend.forward(sequences), reference.forward(sequences), atol=1e-5, rtol=1e-5
        )
    backend.close()


def test_the_runner_serves_through_onnx_and_says_so(tiny: Path, cache: Path) -> None:
    runner = EncoderRunner(RunnerConfig(asked(tiny, cache), Placement("cpu", threads=1)))
    facts = runner.warm_up()
    assert (facts["backend"], facts["dtype"]) == ("onnx", "float32")
    assert facts["provider"] == "CPUExecutionProvider"
    assert facts["backend_chosen"] == "by BATCHER_BACKEND"
    assert np.asarray(runner.run(TINY_TEXTS)).shape == (len(TINY_TEXTS), 33)
    runner.close()


def test_the_model_is_exported_once(tiny: Path, tmp_path: Path) -> None:
    spec, said = read_spec(tiny), list[str]()
    for _ in range(2):
        open_onnx(asked(tiny, tmp_path), spec, CPU, said.append).close()
    assert said == ["exporting the model to ONNX …"]


def test_two_models_whose_files_look_alike_do_not_share_a_graph(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    [weights] = read_spec(other).folder.glob("*.safetensors")
    tensors = load_file(weights)
    save_file({name: tensor.flip(0) for name, tensor in tensors.items()}, weights, {"format": "pt"})
    for path in (*tiny.rglob("*"), *other.rglob("*")):
        os.utime(path, (1, 1))  # as in images that are built reproducibly
    assert content_of(read_spec(tiny).folder) == content_of(read_spec(other).folder)
    for folder in (tiny, other):
        spec = read_spec(folder)
        backend = open_onnx(asked(folder, tmp_path / "cache"), spec, CPU, print)
        vectors = backend.forward(BATCHES[0])
        np.testing.assert_allclose(vectors, exact(spec).forward(BATCHES[0]), atol=1e-5)


def test_a_model_of_more_than_one_file_of_weights_is_not_exported(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST_BYTES", 1000)
    with pytest.raises(export.ExportFailed, match="do not fit into one file of 2 GB"):
        open_onnx(asked(tiny, tmp_path), read_spec(tiny), CPU, print)


def test_a_graph_whose_answers_are_off_is_not_served(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_difference", lambda *_: float("nan"))
    with pytest.raises(export.ExportFailed, match="the graph's answers are off by nan"):
        open_onnx(asked(tiny), read_spec(tiny), CPU, print)


def breaks(*_: Any) -> None:
    raise RuntimeError("no such operator\nin two lines")


def test_a_model_that_cannot_be_exported_is_one_clear_line(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_trace", breaks)
    with pytest.raises(export.ExportFailed) as refused:
        open_onnx(asked(tiny), read_spec(tiny), CPU, print)
    assert str(refused.value) == (
        "the model cannot be exported to ONNX: RuntimeError: no such operator in two lines"
    )


def test_int8_keeps_the_directions_of_float32(tiny: Path, cache: Path) -> None:
    opened = open_backend(asked(tiny, cache, dtype="int8", min_cosine=0.95), *on(tiny))
    assert (opened.backend.name, opened.backend.dtype) == ("onnx", "int8")
    reference = exact(read_spec(tiny))
    for sequences in BATCHES:
        vectors = opened.backend.forward(sequences)
        assert not np.array_equal(vectors, reference.forward(sequences))
        assert Directions().agreement(vectors, reference.forward(sequences)) > 0.95
    assert 0.95 < float(str(opened.facts["cosine"])) <= 1.0


def test_int8_is_what_auto_takes_where_it_is_asked_for(tiny: Path, cache: Path) -> None:
    config = asked(tiny, cache, dtype="int8", backend="auto", min_cosine=0.95)
    assert open_backend(config, *on(tiny)).backend.dtype == "int8"


def test_no_session_has_more_threads_than_it_is_given(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    threads: list[int] = []
    made = onnxruntime.InferenceSession

    def noting(path: str, options: Any = None, *args: Any, **more: Any) -> Any:
        threads.append(options.intra_op_num_threads if options else 0)
        return made(path, options, *args, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noting)
    open_onnx(asked(tiny, dtype="int8"), read_spec(tiny), CPU, print)
    assert len(threads) == 3  # to check the graph, to calibrate, to serve
    assert 0 not in threads  # of ONNX Runtime's own choosing: one bound to each core


def test_blocks_that_are_kept_are_not_quantised(tiny: Path, cache: Path) -> None:
    spec = read_spec(tiny)
    backend = open_onnx(asked(tiny, cache, dtype="int8"), spec, CPU, print)
    assert backend.blocks == ("/model/encoder/layer.0", "/model/encoder/layer.1")
    kept = open_onnx(
        asked(tiny, cache, dtype="int8", float32_blocks=backend.blocks), spec, CPU, print
    )
    reference = exact(spec)
    np.testing.assert_allclose(
        kept.forward(BATCHES[2]), reference.forward(BATCHES[2]), atol=1e-5, rtol=1e-5
    )


def test_what_moves_the_answers_too_far_is_refused_with_what_to_set(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Directions, "agreement", lambda *_: 0.5)
    with pytest.raises(TooInaccurate, match="set BATCHER_DTYPE=float32, or a lower BATCHER_MIN_C"):
        open_backend(asked(tiny, cache, dtype="int8"), *on(tiny))


def test_a_block_of_a_torch_model_computes_in_float32_among_others_that_do_not(
    tiny: Path,
) -> None:
    config = asked(tiny, backend="torch", dtype="bfloat16", float32_blocks=("encoder.layer.0",))
    kept = choice.OPENS["torch"](config, *on(tiny))
    assert isinstance(kept, TorchBackend)
    assert kept.blocks == ("embeddings", "encoder.layer.0", "encoder.layer.1")
    types = {
        n: {str(p.dtype) for p in kept.model.get_submodule(n).parameters()} for n in kept.blocks
    }
    assert types == {
        "embeddings": {"torch.bfloat16"},
        "encoder.layer.0": {"torch.float32"},
        "encoder.layer.1": {"torch.bfloat16"},
    }
    assert kept.dtype == "bfloat16"
    texts = BATCHES[2]
    assert (
        Directions().agreement(kept.forward(texts), exact(read_spec(tiny)).forward(texts)) > 0.999
    )


def test_the_verdict_is_remembered(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = asked(tiny, tmp_path, backend="torch", dtype="bfloat16", min_cosine=0.9)
    first = open_backend(config, *on(tiny))
    monkeypatch.setattr(guarded, "_compare", breaks)
    assert open_backend(config, *on(tiny)).facts == first.facts


def test_dtype_auto_falls_back_to_float32_where_half_precision_is_refused(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Directions, "agreement", lambda *_: 0.5)
    monkeypatch.setattr(choice, "missing", lambda name: ["x"] if name != "torch" else [])
    config = asked(tiny, backend="auto", dtype="auto", min_cosine=1.0)
    opened = open_backend(config, read_spec(tiny), WITH_BFLOAT16, said.append)
    assert opened.backend.dtype == "float32"
    assert any("dtype auto falls back to float32" in line for line in said)


def on(tiny: Path) -> tuple[EncoderSpec, Place, Any]:
    return read_spec(tiny), CPU, print


@pytest.fixture
def two_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO is not looked at, whether it is installed or not."""
    monkeypatch.setattr(choice, "missing", lambda name: ["x"] if name == "openvino" else [])


@pytest.mark.usefixtures("two_only")
def test_auto_measures_and_the_next_start_remembers(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = asked(tiny, tmp_path, backend="auto")
    said: list[str] = []
    first = open_backend(config, read_spec(tiny), CPU, said.append)
    assert first.facts["backend_chosen"] == "measured"
    assert set(first.facts["backend_ms"][ALONE]) == {"torch", "onnx"}  # type: ignore[index]
    assert any(line.startswith("backend ") for line in said)
    monkeypatch.setattr(choice, "benchmark", breaks)
    second = open_backend(config, read_spec(tiny), CPU, said.append)
    assert second.facts["backend_chosen"] == "remembered"
    assert second.backend.name == first.backend.name


@pytest.mark.usefixtures("two_only")
def test_auto_falls_back_to_torch_where_the_export_fails_and_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_trace", breaks)
    said: list[str] = []
    config = asked(tiny, tmp_path, backend="auto")
    opened = open_backend(config, read_spec(tiny), CPU, said.append)
    assert opened.backend.name == "torch"
    assert "no such operator" in opened.facts["backend_failed"]["onnx"]  # type: ignore[index]
    assert any("skipping backend onnx: the model cannot be exported" in line for line in said)
    # It would fail again: the next start does not try.
    monkeypatch.setattr(choice, "OPENS", {**choice.OPENS, "onnx": breaks})
    again = open_backend(config, read_spec(tiny), CPU, said.append)
    assert again.facts["backend_failed"] == opened.facts["backend_failed"]


@pytest.mark.usefixtures("two_only")
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_what_only_fails_on_the_machine_as_it_is_now_is_tried_at_the_next_start(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any) -> None:
        raise error

    config = asked(tiny, tmp_path, backend="auto")
    with monkeypatch.context() as full:
        full.setattr(export, "_trace", fails)
        failed = open_backend(config, *on(tiny)).facts["backend_failed"]
        assert list(failed) == ["onnx"]  # type: ignore[call-overload]
    assert "backend_failed" not in open_backend(config, *on(tiny)).facts


@pytest.mark.usefixtures("two_only")
def test_a_package_that_is_there_and_does_not_load_is_left_out(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # to import it raises ImportError
    opened = open_backend(asked(tiny, tmp_path, backend="auto"), *on(tiny))
    assert opened.backend.name == "torch"
    assert "onnxruntime" in opened.facts["backend_failed"]["onnx"]  # type: ignore[index]


@pytest.mark.usefixtures("two_only")
def test_of_those_that_were_measured_one_is_kept(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"torch": {ALONE: 2.0, SHORT: 1.0}, "onnx": {ALONE: 1.0, SHORT: 1.04}}
    monkeypatch.setattr(choice, "benchmark", lambda *_: found)
    closed: list[str] = []
    monkeypatch.setattr(PackedBackend, "close", lambda _: closed.append("torch"))
    config = asked(tiny, cache, backend="auto", min_cosine=0.5)  # a note of its own
    opened = open_backend(config, *on(tiny))
    assert (opened.backend.name, closed) == ("onnx", ["torch"])
    assert opened.facts["backend_ms"] == {
        ALONE: {"torch": 2000, "onnx": 1000},
        SHORT: {"torch": 1000, "onnx": 1040},
    }


@pytest.mark.usefixtures("two_only")
def test_two_backends_that_win_with_one_text_and_with_more_are_both_kept(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"torch": {ALONE: 2.0, SHORT: 1.0}, "onnx": {ALONE: 1.0, SHORT: 2.0}}
    monkeypatch.setattr(choice, "benchmark", lambda *_: found)
    config = asked(tiny, cache, backend="auto", min_cosine=0.4)
    backend, facts = open_backend(config, *on(tiny))
    assert (backend.name, backend.dtype) == ("onnx+torch", "float32")
    assert backend.facts()["padding_free"] is True
    reference = exact(read_spec(tiny))
    for sequences in BATCHES:
        np.testing.assert_allclose(
            backend.forward(sequences), reference.forward(sequences), atol=1e-5
        )
    assert "backend_failed" not in facts
    backend.close()


@pytest.mark.usefixtures("two_only")
def test_of_two_that_start_together_one_races_and_the_other_reads_its_note(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    racing, finish = threading.Event(), threading.Event()
    races: list[str] = []
    waits = threading.Event()

    def say(line: str) -> None:
        if "to finish the same work (backends)" in line:
            waits.set()

    def gated(*_: Any) -> dict[str, dict[str, float]]:
        races.append(threading.current_thread().name)
        racing.set()
        assert finish.wait(10)
        return {"torch": {ALONE: 1.0}, "onnx": {ALONE: 2.0}}

    monkeypatch.setattr(choice, "benchmark", gated)
    config = asked(tiny, tmp_path, backend="auto")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(open_backend, config, *on(tiny))
        assert racing.wait(20)
        second = pool.submit(open_backend, config, *on(tiny)[:-1], say)
        assert waits.wait(20)
        finish.set()
        chosen = [each.result(20).facts["backend_chosen"] for each in (first, second)]
    assert (chosen, len(races)) == (["measured", "remembered"], 1)


def test_a_backend_whose_package_is_absent_names_the_extra(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages.NEEDED, "onnx", ("no_such_package", "onnx"))
    with pytest.raises(
        BackendNotAvailable,
        match=r"backend onnx needs no_such_package: run pip install -e '\.\[onnx\]' in the clone",
    ):
        open_backend(asked(tiny), *on(tiny))


def test_auto_without_any_other_package_is_torch(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "missing", lambda name: ["x"] if name != "torch" else [])
    opened = open_backend(asked(tiny, backend="auto"), *on(tiny))
    assert (opened.backend.name, opened.facts["backend_chosen"]) == (
        "torch",
        "the only candidate",
    )


def test_int8_with_no_backend_for_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "missing", lambda name: ["x"])
    with pytest.raises(BackendNotAvailable, match=r"run pip install -e '\.\[onnx\]' in the clone"):
        choice.candidates("int8", CPU)
    with pytest.raises(BackendNotAvailable, match="no backend has it"):
        choice.candidates("int8", GPU)


def test_onnx_runs_what_its_provider_can() -> None:
    assert choose_onnx_dtype("auto", CPU) == "float32"
    assert choose_onnx_dtype("auto", GPU) == "float16"
    with pytest.raises(BackendNotAvailable, match="runs float32 and int8 on cpu, not bfloat16"):
        choose_onnx_dtype("bfloat16", CPU)


def test_a_batch_without_room_is_a_memory_error(tiny: Path, cache: Path) -> None:
    class Full:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested")

    backend = OnnxBackend(Full(), read_spec(tiny), "float32", CPU)  # type: ignore[arg-type]
    with pytest.raises(MemoryError, match="3 inputs do not fit"):
        backend.forward(batch(1, 2, 3))


def test_weights_keep_a_spare_bit_without_vnni() -> None:
    assert weight_bits("model name\t: x\nflags\t\t: fpu avx2 avx512_vnni\n") == 8
    assert weight_bits("flags\t\t: fpu avx2\n") == 7
    assert weight_bits("") == 7


def test_each_column_of_weights_has_its_own_scale() -> None:
    weight = np.array([[1.0, 100.0, 0.0], [-2.0, 50.0, 0.0]], dtype=np.float32)
    values, scale, zero = per_channel(weight, 8)
    assert values.tolist() == [[64, 127, 0], [-127, 64, 0]]
    np.testing.assert_allclose(values[:, :2] * scale[:2], weight[:, :2], rtol=0.02)
    assert zero.dtype == np.int8


def test_smoothing_evens_out_what_goes_in() -> None:
    columns = np.array([0.0, 1.0, 100.0], dtype=np.float32)
    even = np.ones(3, dtype=np.float32)
    after = columns / smoothing(columns, even)
    assert np.all(np.isfinite(after))
    assert after[2] / after[1] < 10


def test_a_block_is_a_layer_of_the_model() -> None:
    assert block_of("/model/encoder/layer.3/output/dense/MatMul") == "/model/encoder/layer.3"
    assert (
        block_of("/model/transformer/layers.11/ffn/lin1/MatMul") == "/model/transformer/layers.11"
    )
    assert block_of("/MatMul") == "outside the layers"


@pytest.mark.usefixtures("two_only")
def test_a_backend_that_loads_and_does_not_run_is_left_out(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> NoReturn:
        raise RuntimeError("a kernel is missing")

    monkeypatch.setattr("service.models.backends.onnx.session.OnnxBackend.forward", fails)
    opened = open_backend(asked(tiny, cache, backend="auto"), *on(tiny))
    assert opened.backend.name == "torch"
    assert "a kernel is missing" in str(opened.facts["backend_failed"])


@pytest.mark.skipif(bool(packages.missing("openvino")), reason="openvino is not installed")
@pytest.mark.usefixtures("no_home")
def test_openvino_is_told_of_a_home_where_the_user_has_none() -> None:
    with pytest.raises(RuntimeError, match="home"):
        Path.home()
    openvino.versions()
    assert Path.home() == Path("/nonexistent")


@pytest.mark.skipif(bool(packages.missing("openvino")), reason="openvino is not installed")
def test_openvino_answers_as_torch_does(tiny: Path, cache: Path) -> None:
    opened: Opened = open_backend(asked(tiny, cache, backend="openvino"), *on(tiny))
    backend: Backend = opened.backend
    reference = exact(read_spec(tiny))
    for sequences in BATCHES:
        np.testing.assert_allclose(
            backend.forward(sequences), reference.forward(sequences), atol=1e-5, rtol=1e-5
        )
    backend.close()
