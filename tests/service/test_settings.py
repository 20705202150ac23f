from __future__ import annotations

import re
from typing import Any

import pytest

from batcher import Limits
from batcher.scheduling.replica_model import MOST_TOKENS, ReplicaModel
from service import arguments as flags
from service import main as launch
from service.processes.topology import Topology
from service.repository.locate import ModelNotFound, find_model
from service.settings import REPLACED, BadSetting, Settings


def test_the_defaults_are_those_of_the_documentation() -> None:
    got = flags.load({})
    assert (got.max_batch_size, got.max_batch_tokens, got.max_wait_ms) == (64, None, 0)
    assert (got.max_queue_size, got.request_timeout_ms, got.drain_timeout_ms) == (4096, 3e4, 3e4)
    assert (got.host, got.port, got.max_body_bytes) == ("127.0.0.1", 8000, 32 << 20)
    assert (got.runner, got.isolation, got.max_client_batch_size) == (
        "transformers",
        "process",
        2048,
    )
    assert (got.max_queue_tokens, got.target_latency_ms) == (2_097_152, None)
    assert (got.share_equal, got.cache_bytes) == (True, 0)
    assert (got.sim_fixed_ms, got.sim_per_item_ms, got.sim_per_token_us) == (2, 0.02, 0)
    assert (got.api_key, got.replicas, got.frontends, got.threads) == (None, None, 1, "auto")


def test_a_flag_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCHER_PORT", "1111")
    monkeypatch.setenv("BATCHER_HOST", "0.0.0.0")
    got = flags.load({"port": "2222"})
    assert (got.port, got.host) == (2222, "0.0.0.0")
    lines = flags.effective(got, {"port": "2222"})
    assert "BATCHER_PORT=2222 (flag)" in lines
    assert "BATCHER_HOST=0.0.0.0 (environment)" in lines
    assert "BATCHER_MAX_QUEUE_SIZE=4096 (default)" in lines


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("BATCHER_PORT", "65536", "must be at most 65535"),
        ("BATCHER_MAX_BATCH_SIZE", "0", "must be at least 1"),
        ("BATCHER_MAX_BATCH_SIZE", "2.5", "must be a whole number"),
        ("BATCHER_MAX_WAIT_MS", "-1", "must be at least 0"),
        ("BATCHER_MAX_WAIT_MS", "nan", "must be a number"),
        ("BATCHER_MAX_BATCH_TOKENS", "0", "must be at least 1"),
        ("BATCHER_MAX_QUEUE_TOKENS", "0", "must be at least 1"),
        ("BATCHER_TARGET_LATENCY_MS", "0", "must be at least 1"),
        ("BATCHER_SHARE_EQUAL", "maybe", "must be true or false"),
        ("BATCHER_CACHE_BYTES", "-1", "must be at least 0"),
        ("BATCHER_CACHE_BYTES", "1e9", "must be a whole number"),
        ("BATCHER_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("BATCHER_LOG_FORMAT", "xml", "'text' or 'json'"),
        ("BATCHER_ACCESS_LOG", "some", "'off', 'errors' or 'all'"),
        ("BATCHER_REQUEST_TIMEOUT_MS", "0", "must be at least 1"),
        ("BATCHER_DTYPE", "int4", "float16"),
        ("BATCHER_BACKEND", "tensorflow", "openvino"),
        ("BATCHER_COMPILE", "maybe", "must be true or false"),
        ("BATCHER_TASK", "rerank", "embed"),
        ("BATCHER_DEVICE", "tpu", "cuda:0,cuda:1"),
        ("BATCHER_RUNNER", "magic", "package.module:Name"),
        ("BATCHER_ISOLATION", "none", "process"),
        ("BATCHER_THREADS", "many", "auto"),
        ("BATCHER_REPLICAS", "0", "must be at least 1"),
        ("BATCHER_FRONTENDS", "0", "must be at least 1"),
        ("BATCHER_FRONTENDS", "many", "auto"),
        ("BATCHER_ENGINE", "thread", "inline"),
        ("BATCHER_MAX_BATCHSIZE", "3", "no such setting"),
        ("batcher_colour", "red", "no such setting"),
    ],
)
def test_a_bad_variable_is_named_with_its_value_and_the_rule(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting) as error:
        flags.load({})
    text = str(error.value)
    assert text.startswith(f"{variable}={value!r}: ")
    assert rule in text
    assert "\n" not in text


def test_what_to_serve_may_be_named_without_a_flag() -> None:
    assert flags.parse(["my.module:Cat", "--port", "1"]) == {
        "runner": "my.module:Cat",
        "port": "1",
        "print_config": False,
    }
    assert flags.parse(["org/model"])["model"] == "org/model"
    assert "model" not in flags.parse(["--port", "1"])


def test_what_to_serve_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        flags.parse(["a:B", "--runner", "c:D"])
    assert ended.value.code == 2
    assert "--runner is given, and 'a:B' beside it" in capsys.readouterr().err


def test_a_bad_flag_is_named_as_a_flag() -> None:
    with pytest.raises(BadSetting, match=r"^--max-batch-size='0': must be at least 1 "):
        flags.load({"max_batch_size": "0"})


def test_the_load_tests_variables_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHER_LOADTEST_SENTENCES", "file.txt")
    assert flags.load({}).port == 8000


def test_the_key_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHER_API_KEY", "hush")
    got = flags.load({})
    assert not any("hush" in line for line in [repr(got), *flags.effective(got, {})])


def test_an_empty_key_refuses_to_start_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHER_API_KEY", "")
    with pytest.raises(BadSetting, match=r"^BATCHER_API_KEY is set but empty.* unset it to serve"):
        flags.load({})
    monkeypatch.delenv("BATCHER_API_KEY")
    with pytest.raises(BadSetting, match=r"^--api-key is set but empty.* give it a value, or"):
        flags.load({"api_key": ""})


@pytest.mark.parametrize(
    "name", [name for name in Settings.model_fields if name not in ("api_key", "cache_dir")]
)
def test_any_other_empty_setting_is_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    unset = getattr(Settings(), name)
    monkeypatch.setenv(f"BATCHER_{name.upper()}", "")
    got = flags.load({name: ""})
    assert getattr(got, name) == unset
    assert name not in got.model_fields_set


@pytest.mark.parametrize("given", ["query: ", '["a"]', '{"query": 1}', "{"])
def test_prompts_that_are_no_named_texts_are_refused(given: str) -> None:
    with pytest.raises(BadSetting, match=r'--prompts.* a JSON object of texts, such as \{"query"'):
        flags.load({"prompts": given})
    got = flags.load({"prompts": '{"query": "query: "}', "prompt": "query: "})
    assert (got.prompt, got.named_prompts) == ("query: ", {"query": "query: "})
    assert flags.load({}).named_prompts == {}


def test_durations_are_seconds_inside() -> None:
    assert Settings(max_wait_ms=5).limits.max_wait == 0.005


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 30),
        ({"target_latency_ms": 200}, 0.2),
        ({"target_latency_ms": 60_000}, 30),
        ({"target_latency_ms": 500, "request_timeout_ms": 100}, 0.1),
    ],
)
def test_traffic_without_a_deadline_gets_the_target_for_one(
    given: dict[str, Any], seconds: float
) -> None:
    assert Settings(**given).deadline == seconds


def test_the_limits_of_the_engine_are_those_of_the_settings() -> None:
    given = {"max_batch_tokens": 7, "max_queue_tokens": 8, "share_equal": False, "cache_bytes": 9}
    limits = Settings(**given).limits
    assert {name: getattr(limits, name) for name in given} == given


@pytest.mark.parametrize(
    ("given", "seconds", "by_deadline"),
    [
        ({}, 5.0, False),
        ({"runner": "my.module:Cat"}, 5.0, True),
        ({"runner": "my.module:Cat", "hang_after_ms": 7_000}, 7.0, False),
    ],
)
def test_only_code_of_the_users_own_may_take_as_long_as_its_caller_has(
    given: dict[str, Any], seconds: float, by_deadline: bool
) -> None:
    limits = Settings(**given).limits
    assert (limits.hang_after, limits.hang_by_deadline) == (seconds, by_deadline)


@pytest.mark.parametrize("name", ["max_batch_tokens", "min_cosine", "replicas", "hang_after_ms"])
def test_what_is_printed_as_empty_may_be_given_back_so(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (line,) = (
        line
        for line in flags.effective(flags.load({}), {})
        if line.startswith(f"BATCHER_{name.upper()}=")
    )
    variable, _, value = line.partition(" ")[0].partition("=")
    monkeypatch.setenv(variable, value)
    assert getattr(flags.load({}), name) is None


def test_a_setting_that_was_replaced_works_with_a_warning_and_is_not_shown_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert flags.warnings_of(flags.load({})) == []
    text = flags.parser().format_help() + str(flags.effective(flags.load({}), {}))
    assert "target" not in text.lower()
    assert "--engine" not in text
    monkeypatch.setenv("BATCHER_TARGET_LATENCY_MS", "200")
    typed = vars(flags.parser().parse_args(["--engine", "process"]))
    typed.pop("print_config")
    got = flags.load(typed)
    assert (got.deadline, Topology.of(got).is_alone) == (0.2, False)
    assert flags.warnings_of(got) == [
        "BATCHER_TARGET_LATENCY_MS is deprecated and will be removed in the next release: use"
        " BATCHER_REQUEST_TIMEOUT_MS",
        "BATCHER_ENGINE is deprecated and will be removed in the next release: use"
        " BATCHER_FRONTENDS",
    ]
    assert "BATCHER_TARGET_LATENCY_MS=200 (environment)" in flags.effective(got, {})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"unix_socket": "/a", "port": "8000"}, ["BATCHER_PORT unused: BATCHER_UNIX_SOCKET is"]),
        ({"unix_socket": "/a", "host": "::", "port": "1"}, ["BATCHER_HOST and BATCHER_PORT unus"]),
        ({"trusted_proxies": "10.0.0.1, unix"}, ["BATCHER_TRUSTED_PROXIES: unix has no effect"]),
        ({"unix_socket": "/a", "trusted_proxies": "10.0.0.1"}, ["BATCHER_TRUSTED_PROXIES: nobody"]),
        ({"unix_socket": "/a", "trusted_proxies": "unix"}, []),
        ({"host": "::", "port": "1", "trusted_proxies": "10.0.0.1"}, []),
    ],
)
def test_a_setting_that_has_no_effect_beside_another_is_told(
    given: dict[str, str], told: list[str]
) -> None:
    lines = flags.warnings_of(flags.load(given))
    assert [line[: len(start)] for line, start in zip(lines, told, strict=True)] == told


def test_what_differs_from_the_defaults_is_listed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHER_HOST", "0.0.0.0")
    monkeypatch.setenv("BATCHER_MAX_QUEUE_SIZE", "4096")  # its default
    monkeypatch.setenv("BATCHER_CACHE_DIR", "")
    monkeypatch.setenv("BATCHER_API_KEY", "hush")
    typed = {"port": "81"}
    assert flags.changed(flags.load(typed), typed) == [
        "BATCHER_HOST=0.0.0.0 (environment)",
        "BATCHER_PORT=81 (flag)",
        "BATCHER_API_KEY=********** (environment)",
        "BATCHER_CACHE_DIR= (environment)",
    ]


def test_what_is_left_unset_says_what_that_means() -> None:
    assert ReplicaModel(Limits()).max_batch_tokens == MOST_TOKENS == 16384
    assert Settings().limits.max_batch_tokens is None
    lines = flags.effective(flags.load({}), {})
    learned = "learned from the device's profile, at most 16384"
    assert f"BATCHER_MAX_BATCH_TOKENS= (default: {learned})" in lines
    assert "BATCHER_SHARE_EQUAL=true (default)" in lines
    text = " ".join(flags.parser().format_help().split())
    assert f"a longer input runs alone (default: {learned})" in text
    flags_given = {"max_batch_tokens": "512"}
    lines = flags.effective(flags.load(flags_given), flags_given)
    assert "BATCHER_MAX_BATCH_TOKENS=512 (flag)" in lines


def test_a_request_may_not_bring_more_than_the_queue_holds() -> None:
    assert Settings(max_queue_size=10, max_client_batch_size=256).client_batch_limit == 10
    assert Settings(max_queue_size=999, max_client_batch_size=256).client_batch_limit == 256


@pytest.mark.parametrize(
    ("given", "model_id"),
    [
        ({}, "sentence-transformers/all-MiniLM-L6-v2"),
        ({"runner": "simulated"}, "simulated"),
        ({"runner": "my.module:Runner"}, "my.module:Runner"),
        ({"runner": "my.module:Runner", "model": "mine"}, "mine"),
    ],
)
def test_the_model_is_known_by_what_was_asked_for(given: dict[str, Any], model_id: str) -> None:
    assert Settings(**given).model_id == model_id


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        flags.parser().parse_args(["--help"])
    assert leave.value.code == 0
    text = "".join(capsys.readouterr().out.split())  # lines may break after a hyphen, too
    for name, field in Settings.model_fields.items():
        if name in REPLACED:
            continue
        shown = f"{flags.flag(name)} X {field.description}"
        assert "".join(shown.split()) in text
    assert "(default:64)" in text


def test_print_config_prints_and_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(["--print-config", "--port", "81"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "BATCHER_PORT=81 (flag)" in out
    # And where the one replica goes; not what is deprecated.
    assert len(out) == len(Settings.model_fields) - len(REPLACED) + 1


def test_an_unknown_flag_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        flags.parser().parse_args(["--colour", "red"])
    assert leave.value.code == 2
    error = capsys.readouterr().err
    assert "--colour" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("key", [" key", "key\n", " "])
def test_a_key_with_white_space_around_it_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("BATCHER_API_KEY", key)
    with pytest.raises(BadSetting, match=r"^BATCHER_API_KEY=\(hidden\): must not have white space"):
        flags.load({})


@pytest.mark.parametrize("variable", ["BATCHER_APIKEY", "BATCHER_HF_TOKEN", "batcher_my_secret"])
def test_the_value_of_a_misspelt_secret_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "hush")
    with pytest.raises(BadSetting, match=rf"^{variable}=\(hidden\): there is no such setting"):
        flags.load({})


def test_the_help_says_what_the_defaults_do() -> None:
    text = " ".join(flags.parser().format_help().split())
    assert "the measured needs of one (default: 1 for each device)" in text
    assert "a hung batch cannot be interrupted" in text


def test_a_key_that_no_header_can_bring_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("\udcffabc", "a\tb"):
        monkeypatch.setenv("BATCHER_API_KEY", key)
        with pytest.raises(BadSetting, match="printable characters") as refused:
            flags.load({})
        assert key not in str(refused.value)


def test_a_mistyped_flag_is_named_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        flags.parser().parse_args(["--api-keys=SECRET1", "SECRET2"])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert "--api-keys" in told
    assert "SECRET" not in told


def test_measurements_are_saved_where_caches_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("BATCHER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert Settings().cache_folder == "/caches/batcher"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Settings().cache_folder == "~/.cache/batcher"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Settings().cache_folder == "~/.cache/batcher"
    monkeypatch.setenv("BATCHER_CACHE_DIR", "off")
    assert Settings().cache_folder == ""
    assert flags.warnings_of(Settings()) == []
    monkeypatch.setenv("BATCHER_CACHE_DIR", "")  # as it was written before
    assert Settings().cache_folder == ""
    assert "write off" in flags.warnings_of(Settings())[0]


@pytest.mark.usefixtures("no_home")
def test_a_user_without_a_home_saves_nothing_and_is_told_so() -> None:
    assert Settings().cache_folder == ""
    [line] = flags.warnings_of(Settings())
    assert "no home folder" in line
    assert flags.warnings_of(Settings(cache_dir="/saved")) == []


@pytest.mark.usefixtures("no_home")
def test_without_a_home_a_tilde_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"--cache-dir.*no home folder"):
        flags.load({"cache_dir": "~/saved"})
    with pytest.raises(ModelNotFound, match="no such folder"):
        find_model("~/model")


@pytest.mark.parametrize(
    ("name", "given", "rule"),
    [
        ("cors_origins", "*,https://a.example", "must be origins as browsers send them"),
        ("cors_origins", "a.example", "must be origins as browsers send them"),
        ("cors_origins", "https://a.example/path", "must be origins as browsers send them"),
        ("cors_origins", "null", "must be origins as browsers send them"),
        ("cors_origins", "https://a.example,", "must be origins as browsers send them"),
        ("root_path", "embed", "must be a path"),
        ("root_path", "//embed", "must be a path"),
        ("root_path", "/a/../b", "must be a path"),
        ("root_path", "/a?b", "must be a path"),
        ("trusted_proxies", "10.0.0.0/33", "must be addresses or networks"),
        ("trusted_proxies", "proxy.example", "must be addresses or networks"),
        ("trusted_proxies", "*", "must be addresses or networks"),
        ("trusted_proxies", "10.0.0.1,", "must be addresses or networks"),
        ("keep_alive_ms", "0", "must be at least 1000"),
    ],
)
def test_what_no_browser_or_proxy_would_send_is_refused(name: str, given: str, rule: str) -> None:
    with pytest.raises(BadSetting, match=re.escape(rule)):
        flags.load({name: given})
