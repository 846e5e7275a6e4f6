from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kernob import config
from kernob.config import describe, load
from kernob.errors import ConfigError
from kernob.identity.service import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.config import Loaded

EVERYTHING = """\
agent:
  interval: 500ms
  mode: polling
network:
  flows: 1024
  datagram_peers: no
services:
  - match: {unit: "shop@*.service", user: shop}
    name: shop
  - match:
      executable: python*
    name: "{user}"
peers:
  10.0.0.0/8: lan
  192.0.2.7: db
  fd00::/8: six
metrics:
  series_limit: 500
prometheus:
  listen: off
  token_file: /run/token
otlp:
  endpoint: http://collector:4318
  interval: 1m
  queue: 7
log:
  level: debug
  format: json
"""


@pytest.fixture(autouse=True)
def no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "default.yaml")


def write(directory: Path, text: str, name: str = "kernob.yaml") -> Path:
    file = directory / name
    file.write_text(text)
    return file


def mistake(
    path: Path | None, environ: Mapping[str, str] = {}, flags: Mapping[str, object] = {}
) -> str:
    with pytest.raises(ConfigError) as raised:
        load(path, environ, flags)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_defaults() -> None:
    loaded = load(None, {}, {})

    assert loaded.config == config.Config()
    assert loaded.config.agent.interval == 1
    assert loaded.config.prometheus.listen == "127.0.0.1:9464"
    assert not loaded.otlp.enabled
    assert loaded.otlp.interval == 15
    assert loaded.origins == {}


def test_every_setting_from_a_file(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, EVERYTHING), {}, {})

    settings = loaded.config
    assert (settings.agent.interval, settings.agent.mode) == (0.5, "polling")
    assert (settings.network.flows, settings.network.datagram_peers) == (1024, False)
    assert settings.network.processes == 16384
    assert settings.services == (
        Rule({"unit": "shop@*.service", "user": "shop"}, "shop"),
        Rule({"executable": "python*"}, "{user}"),
    )
    assert settings.peers == {"10.0.0.0/8": "lan", "192.0.2.7": "db", "fd00::/8": "six"}
    assert settings.metrics.series_limit == 500
    assert not settings.prometheus.enabled
    assert settings.prometheus.token_file == Path("/run/token")
    assert (settings.log.level, settings.log.format) == ("debug", "json")
    assert loaded.otlp.endpoint == "http://collector:4318/v1/metrics"
    assert (loaded.otlp.enabled, loaded.otlp.interval, loaded.otlp.queue) == (True, 60, 7)
    assert loaded.origins["prometheus.listen"] == f"{tmp_path}/kernob.yaml:20"


def test_flags_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "network:\n  flows: 1001\n  processes: 1001\n  peers_per_server: 1001\n")
    environ = {"KERNOB_NETWORK_FLOWS": "1002", "KERNOB_NETWORK_PROCESSES": "1002"}

    loaded = load(file, environ, {"network.flows": 1003})

    network = loaded.config.network
    assert network.flows == 1003
    assert network.processes == 1002
    assert network.peers_per_server == 1001
    assert network.peers_per_client == 1024
    assert loaded.origins["network.flows"] == "--flows"
    assert loaded.origins["network.processes"] == "KERNOB_NETWORK_PROCESSES"
    assert loaded.origins["network.peers_per_server"] == f"{file}:4"
    assert "network.peers_per_client" not in loaded.origins


def test_which_file(tmp_path: Path) -> None:
    named = write(tmp_path, "agent: {mode: ebpf}", "named.yaml")
    given_ = write(tmp_path, "agent: {mode: polling}", "given.yaml")
    write(tmp_path, "log: {level: error}", "default.yaml")

    assert load(None, {}, {}).config.log.level == "error"
    assert load(None, {"KERNOB_CONFIG": str(named)}, {}).config.agent.mode == "ebpf"
    assert load(given_, {"KERNOB_CONFIG": str(named)}, {}).config.agent.mode == "polling"
    assert load(None, {"KERNOB_CONFIG": ""}, {}).config.log.level == "error"


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("2s", 2), ("0.25", 0.25), ("1m", 60), (" 3 s ", 3)]
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    file = write(tmp_path, f"agent: {{interval: {text}}}")

    assert load(file, {}, {}).config.agent.interval == seconds
    assert load(None, {"KERNOB_AGENT_INTERVAL": text}, {}).config.agent.interval == seconds
    assert load(None, {}, {"agent.interval": text}).config.agent.interval == seconds


def test_off_is_a_word_everywhere(tmp_path: Path) -> None:
    for loaded in (
        load(write(tmp_path, "prometheus: {listen: off}"), {}, {}),
        load(None, {"KERNOB_PROMETHEUS_LISTEN": "off"}, {}),
        load(None, {}, {"prometheus.listen": "off"}),
    ):
        assert not loaded.config.prometheus.enabled


def test_empty_is_unset(tmp_path: Path) -> None:
    environ = {
        "KERNOB_AGENT_MODE": "",
        "KERNOB_PROMETHEUS_LISTEN": "",
        "OTEL_METRIC_EXPORT_INTERVAL": "",
    }

    loaded = load(write(tmp_path, "agent:\nprometheus:\n  token_file:\n"), environ, {})

    assert loaded.config == config.Config()
    assert load(write(tmp_path, "# nothing\n"), {}, {}).config == config.Config()


def test_opentelemetrys_variables(tmp_path: Path) -> None:
    file = write(tmp_path, "otlp:\n  endpoint: http://file\n  interval: 5s\n", "kernob.yml")
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:4318",
        "OTEL_METRIC_EXPORT_INTERVAL": "2500",
    }

    by_file = load(file, {}, {})
    by_environ = load(file, environ, {})
    by_own = load(file, {**environ, "KERNOB_OTLP_ENDPOINT": "http://own"}, {})
    by_flag = load(file, environ, {"otlp.endpoint": "http://flag"})
    exact = load(file, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://exact/x"}, {})

    assert by_file.otlp.endpoint == "http://file/v1/metrics"
    assert by_file.otlp.interval == 5
    assert by_environ.otlp.endpoint == "http://env:4318/v1/metrics"
    assert by_environ.otlp.interval == 2.5
    assert by_own.otlp.endpoint == "http://own/v1/metrics"
    assert by_flag.otlp.endpoint == "http://flag/v1/metrics"
    assert exact.otlp.endpoint == "http://exact/x"


@pytest.mark.parametrize(
    ("host", "port", "listen"),
    [
        ("0.0.0.0", "80", "0.0.0.0:80"),
        ("", "80", "127.0.0.1:80"),
        ("::1", "", "[::1]:9464"),
    ],
)
def test_opentelemetrys_variables_for_prometheus(host: str, port: str, listen: str) -> None:
    environ = {"OTEL_EXPORTER_PROMETHEUS_HOST": host, "OTEL_EXPORTER_PROMETHEUS_PORT": port}

    assert load(None, environ, {}).config.prometheus.listen == listen
    environ["KERNOB_PROMETHEUS_LISTEN"] = "off"
    assert not load(None, environ, {}).config.prometheus.enabled


MISTAKES = [
    ("agent:\n  interval: never\n", ":2: agent.interval: a duration such as 15s"),
    ("agent:\n  interval: 50ms\n", ":2: agent.interval: 0.1 to 60 seconds"),
    ("agent:\n  interval: .nan\n", ":2: agent.interval: "),
    ("agent:\n  intervall: 1s\n", ":2: agent.intervall: there is no such setting: did you mean"),
    ("agents:\n  interval: 1s\n", ":1: agents: there is no such setting: did you mean agent"),
    ("log: {}\nagent:\n  mode: fast\n", ":3: agent.mode: "),
    ("network:\n\n  flows: -1\n", ":3: network.flows: "),
    ("network:\n  flows: many\n", ":2: network.flows: "),
    ("network:\n  datagram_peers: 7\n", ":2: network.datagram_peers: "),
    ("log: 7\n", ":1: log: "),
    ("log: [a]\n", ":1: log: "),
    ("- a\n", ":1: sections"),
    ("word\n", ":1: sections"),
    ("services:\n- match: {user: x}\n", ":2: services[0]: "),
    ("services:\n- match: {colour: x}\n  name: y\n", ":2: services[0]: a rule can't match"),
    ("services:\n- {match: {user: x}, nam: y}\n", ":2: services[0]"),
    ("services:\n- match: {user: x}\n  name: '{colour}'\n", ":2: services[0]: {colour}"),
    ("peers:\n  10.0.0.1/8: x\n", ":2: peers.10.0.0.1/8: "),
    ("peers:\n  host: x\n", ":2: peers.host: "),
    ("peers:\n  10.0.0.1: [a]\n", ":1: peers"),
    ('"a\\nb": 1\n', ":1: a?b: there is no such setting"),
    ("prometheus:\n  listen: somewhere\n", ":2: prometheus.listen: "),
    ("prometheus:\n  listen: 127.0.0.1:99999\n", ":2: prometheus.listen: "),
    ("prometheus:\n  certificate: /x\n", ":2: prometheus.certificate: prometheus.key is wanted"),
    ("otlp:\n  endpoint: collector:4318\n", ":2: otlp.endpoint: "),
    ("agent:\n  mode: auto\nagent:\n  mode: ebpf\n", ":3: agent: given twice"),
    ("agent: &a {mode: auto}\nlog: *a\n", ":2: log: an alias"),
    ("agent:\n\tmode: auto\n", ":2: no YAML"),
    ("agent: {mode: auto\n", "no YAML"),
    ("agent: !!python/object/apply:os.getcwd []\n", ":1: agent: "),
    ("agent: {interval: !!int ''}\n", ":1: "),
    ("agent: {interval: !!bool x}\n", ":1: "),
    ("agent: {interval: !!timestamp x}\n", ":1: "),
    ("agent: {interval: 2001-99-99}\n", ":1: "),
    ("? [a]\n: b\n", ":1: a name is wanted"),
    ("a: " + "[" * 5000, "no YAML"),
    ("network: {flows: " + "9" * 5000 + "}", ":1: network.flows"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_in_the_file_points_at_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert f"{tmp_path}/kernob.yaml{message if message[0] == ':' else ''}" in mistake(
        write(tmp_path, text)
    )
    assert message in mistake(tmp_path / "kernob.yaml")


def test_files_that_cant_be_read(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.yaml: No such file" in mistake(tmp_path / "none.yaml")
    assert "Is a directory" in mistake(None, {"KERNOB_CONFIG": str(tmp_path)})
    assert "larger than" in mistake(Path("/dev/zero"))
    (tmp_path / "binary").write_bytes(b"\x80\x81")
    assert "no YAML" in mistake(tmp_path / "binary")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("KERNOB_AGENT_INTERVAL", "often", "KERNOB_AGENT_INTERVAL: agent.interval: a duration"),
        ("KERNOB_AGENT_INTERVAL", "2001-99-99", "KERNOB_AGENT_INTERVAL: "),
        ("KERNOB_NETWORK_FLOWS", "[1]", "KERNOB_NETWORK_FLOWS: "),
        ("KERNOB_NETWORK_FLOWS", "1", "KERNOB_NETWORK_FLOWS: network.flows: "),
        ("KERNOB_OTLP_ENDPOINT", "collector", "KERNOB_OTLP_ENDPOINT: otlp.endpoint: "),
        ("KERNOB_AGENT_INTERVALL", "1s", "KERNOB_AGENT_INTERVALL: there is no such setting"),
        ("KERNOB_PROMETEUS_LISTEN", "off", "did you mean KERNOB_PROMETHEUS_LISTEN?"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1s", "OTEL_METRIC_EXPORT_INTERVAL: "),
    ],
)
def test_a_mistake_in_a_variable_names_it(variable: str, value: str, message: str) -> None:
    assert message in mistake(None, {variable: value})


def test_variables_of_others_are_let_alone() -> None:
    # Kubernetes sets these in every pod beside a service called kernob or kernob-agent.
    environ = {
        "KERNOB_SERVICE_HOST": "10.0.0.1",
        "KERNOB_PORT": "tcp://10.0.0.1:9464",
        "KERNOB_AGENT_SERVICE_PORT": "9464",
        "KERNOB_AGENT_PORT_9464_TCP_ADDR": "10.0.0.1",
        "KERNOB_BENCH": "x",
    }

    assert load(None, environ, {}).config == config.Config()


def test_a_mistake_in_a_flag_names_it() -> None:
    assert mistake(None, {}, {"agent.mode": "fast"}).startswith("--mode: agent.mode: ")
    assert mistake(None, {}, {"otlp.endpoint": "x"}).startswith("--otlp: otlp.endpoint: ")


def plain(loaded: Loaded) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(describe(loaded, as_json=True))["settings"]
    return settings


def test_describe_says_where_from(tmp_path: Path) -> None:
    file = write(tmp_path, EVERYTHING)

    text = describe(
        load(file, {"KERNOB_LOG_LEVEL": "error"}, {"agent.mode": "ebpf"}), as_json=False
    )

    lines = {
        line.split("#")[0].strip(): line.partition("#")[2].strip() for line in text.splitlines()
    }
    assert lines["interval: 0.5s"] == f"{file}:2"
    assert lines["mode: ebpf"] == "--mode"
    assert lines["level: error"] == "KERNOB_LOG_LEVEL"
    assert lines["processes: 16384"] == "default"


@pytest.mark.parametrize("text", ["", EVERYTHING])
def test_what_is_described_can_be_loaded(tmp_path: Path, text: str) -> None:
    loaded = load(write(tmp_path, text), {}, {})

    again = load(write(tmp_path, describe(loaded, as_json=False), "again.yaml"), {}, {})

    assert again.config == loaded.config
    assert again.otlp == loaded.otlp


def test_describe_shows_opentelemetrys_variables_in_force() -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://env", "OTEL_METRIC_EXPORT_INTERVAL": "2500"}

    text = describe(load(None, environ, {}), as_json=False)

    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in text
    assert "OTEL_METRIC_EXPORT_INTERVAL" in text


def test_describe_keeps_secrets() -> None:
    loaded = load(None, {}, {"otlp.endpoint": "https://bob:S3cr3tWord@collector:4318"})

    assert "S3cr3tWord" not in describe(loaded, as_json=False) + describe(loaded, as_json=True)


NAMES = """
agent network services peers metrics prometheus otlp log interval mode flows match name user
listen token_file endpoint queue level 10.0.0.0/8 x
"""
names = st.sampled_from(NAMES.split())
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.binary(max_size=4) | st.dates() | st.sampled_from(["1s", "off", "auto", "~", "1:2", "0x1"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(names | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)
quietly = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)


@quietly
@given(st.dictionaries(names, values, max_size=5))
def test_any_yaml_is_a_configuration_or_an_error(tmp_path: Path, value: dict[str, Any]) -> None:
    file = write(tmp_path, yaml.safe_dump(value, allow_unicode=True))
    try:
        describe(load(file, {}, {}), as_json=False)
    except ConfigError as error:
        assert str(error).startswith(str(file))  # noqa: PT017


@quietly
@given(st.text(max_size=60) | st.text("abc:- \n[]{}&*!|>'\"#%@`?,0123.", max_size=60))
@example("!!float ''")
@example("agent: {interval: !!float ''}")
def test_any_text_is_a_configuration_or_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kernob.yaml"
    file.write_text(text, errors="surrogatepass")
    try:
        load(file, {}, {})
    except ConfigError as error:
        assert str(error).startswith(str(file))  # noqa: PT017


@quietly
@given(
    st.sampled_from(["AGENT_INTERVAL", "NETWORK_FLOWS", "LOG_LEVEL", "OTLP_QUEUE"]),
    st.text(max_size=12),
)
def test_any_variable_is_a_setting_or_an_error(name: str, text: str) -> None:
    try:
        load(None, {f"KERNOB_{name}": text}, {})
    except ConfigError as error:
        assert str(error).startswith(f"KERNOB_{name}: ")  # noqa: PT017
