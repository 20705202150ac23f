"""Variables with our prefix that come from Kubernetes or Docker, and those that are misspelt."""

from __future__ import annotations

import pytest

from service import arguments as flags
from service.environment import links_in, settings_in, unknown_in
from service.settings import BadSetting, Settings

# As a pod gets them in whose namespace a Service has that name, with two ports.
SERVICE = {
    "BATCHER_SERVICE_HOST": "10.43.7.1",
    "BATCHER_SERVICE_PORT": "8000",
    "BATCHER_SERVICE_PORT_HTTP": "8000",
    "BATCHER_SERVICE_PORT_METRICS_V2": "9000",
    "BATCHER_PORT": "tcp://10.43.7.1:8000",
    "BATCHER_PORT_8000_TCP": "tcp://10.43.7.1:8000",
    "BATCHER_PORT_8000_TCP_ADDR": "10.43.7.1",
    "BATCHER_PORT_8000_TCP_PORT": "8000",
    "BATCHER_PORT_8000_TCP_PROTO": "tcp",
    "BATCHER_PORT_53_UDP": "udp://[fd00::1]:53",
    "BATCHER_PORT_53_UDP_ADDR": "fd00::1",
    "BATCHER_PORT_9_SCTP_PROTO": "sctp",
}
METRICS = {name.replace("BATCHER_", "BATCHER_METRICS_", 1): SERVICE[name] for name in SERVICE}
DOCKER = {
    "BATCHER_PORT": "tcp://172.17.0.5:8000",
    "BATCHER_PORT_8000_TCP": "tcp://172.17.0.5:8000",
    "BATCHER_PORT_8000_TCP_PORT_START": "8000",
    "BATCHER_PORT_8000_TCP_PORT_END": "8005",
    "BATCHER_NAME": "/web/batcher",
    "BATCHER_ENV_PATH": "/usr/bin",
    "BATCHER_ENV_BATCHER_PORT": "80",
    "BATCHER_DB_PORT": "tcp://172.17.0.6:5432",
    "BATCHER_DB_NAME": "/web/batcher-db",
    "BATCHER_DB_ENV_PASSWORD": "x",
}


@pytest.mark.parametrize("injected", [SERVICE, METRICS, DOCKER], ids=["batcher", "other", "docker"])
def test_what_kubernetes_and_docker_inject_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, injected: dict[str, str]
) -> None:
    for name, value in injected.items():
        monkeypatch.setenv(name, value)
    got = flags.load({})
    assert got.port == 8000
    assert "port" not in got.model_fields_set
    assert flags.load({"port": "81"}).port == 81
    [line] = flags.warnings_of(got)
    assert line.endswith(f"and {len(injected) - 4} more")
    if "BATCHER_PORT" in injected:
        assert "are ignored: BATCHER_PORT, " in line


@pytest.mark.parametrize(("name", "value"), [*SERVICE.items(), *METRICS.items()])
def test_each_of_them_is_recognised_alone(name: str, value: str) -> None:
    given = {name: value}
    assert (settings_in(given), links_in(given)) == ({}, [name])
    assert unknown_in(given, Settings.model_fields) == []


def test_a_port_that_is_given_next_to_a_service_counts() -> None:
    assert settings_in({**SERVICE, "BATCHER_PORT": "80"}) == {"port": "80"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCHER_PORTS", "80"),
        ("BATCHER_PROT", "tcp://10.0.0.1:80"),
        ("BATCHER_HTTP_PORT", "80"),  # no link has a bare number for a port
        ("BATCHER_SERVICE", "x"),
        ("BATCHER_SERVICE_HOSTS", "10.0.0.1"),
        ("BATCHER_PORT_8000", "tcp://10.0.0.1:80"),
        ("BATCHER_PORT_HTTP_TCP", "tcp://10.0.0.1:80"),
        ("BATCHER_MODEL_NAME", "sentence-transformers/all-MiniLM-L6-v2"),
        ("BATCHER_MODEL_NAME", "/models/mini"),
        ("BATCHER_ENV_FILE", ".env"),  # of no linked container
    ],
)
def test_a_misspelt_setting_is_still_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting, match=f"^{name}=.*: there is no such setting"):
        flags.load({})


def test_a_port_link_on_a_flag_is_no_port() -> None:
    with pytest.raises(BadSetting, match=r"^--port='tcp://"):
        flags.load({"port": "tcp://10.0.0.1:80"})


@pytest.mark.parametrize(
    ("service", "name", "value"),
    [
        (SERVICE, "BATCHER_NAME", "mine"),
        (SERVICE, "BATCHER_ENV_FILE", ".env"),
        (
            {name.replace("BATCHER_", "BATCHER_MODEL_", 1): SERVICE[name] for name in SERVICE},
            "BATCHER_MODEL_NAME",
            "BAAI/bge-m3",
        ),
    ],
)
def test_next_to_the_links_of_a_kubernetes_service_it_is_still_refused(
    monkeypatch: pytest.MonkeyPatch, service: dict[str, str], name: str, value: str
) -> None:
    """Kubernetes sets no NAME; ignored, it would have the default model served in its place."""
    for link in service:
        monkeypatch.setenv(link, service[link])
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting, match=f"^{name}=.*: there is no such setting"):
        flags.load({})
