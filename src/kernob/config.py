"""The one configuration: file, environment and flags, typed, each value with its origin.

Later wins: defaults, the file (YAML), the environment (`KERNOB_AGENT_INTERVAL` is
`agent.interval`), flags. OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_*`,
`OTEL_METRIC_EXPORT_INTERVAL`) count as environment, too. A mistake names its place: file and
line, variable or flag.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn

import msgspec
import yaml

from kernob.errors import ConfigError
from kernob.identity.service import Rule  # noqa: TC001  (msgspec reads the types)
from kernob.telemetry import otlp
from kernob.telemetry.http import Tls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_FILE: Final = Path("/etc/kernob/kernob.yaml")
LARGEST_FILE: Final = 1 << 20
"""Bytes: a larger configuration is a mistake."""

_UNITS: Final = {"": 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"\s*([0-9.]+)\s*(ms|s|m|h|)\s*")
_PATH: Final = re.compile(r" - at `\$?\.?([^`]*)`$")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")

Entries = Annotated[int, msgspec.Meta(ge=16, le=1 << 22)]


class Seconds(float):
    """A duration: `500ms`, `15s`, `1m`, or a number of seconds."""


class Agent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to count.

    Attributes:
        interval: seconds between two readings of the kernel's tables.
        mode: `auto` takes eBPF where it can be had.
    """

    interval: Seconds = Seconds(1)
    mode: Literal["auto", "ebpf", "polling"] = "auto"


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of what the kernel keeps.

    Attributes:
        flows: rows: one for each process and peer.
        processes: whose names are kept.
        peers_per_server: clients of one port that get a row, and a name, of their own.
        peers_per_client: servers one process calls that get a row of their own.
        datagram_peers: find out whom unconnected UDP sockets talk to (needs cgroup version 2).
    """

    flows: Entries = 65536
    processes: Entries = 16384
    peers_per_server: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64
    peers_per_client: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 1024
    datagram_peers: bool = True


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes out at most.

    Attributes:
        series_limit: of one metric; what exceeds it is one series, `otel.metric.overflow`.
    """

    series_limit: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 10_000


class Prometheus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the agent answers.

    Attributes:
        listen: `host:port`, or `off`. Off loopback it needs a token or certificates of clients.
        token_file: holds the bearer token that clients send.
        certificate: PEM file, for TLS.
        key: PEM file of the certificate's key.
        client_ca: PEM file of who signs the certificates of clients.
    """

    listen: str = "127.0.0.1:9464"
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    @property
    def enabled(self) -> bool:
        """Whether the agent listens."""
        return self.listen != "off"

    @property
    def tls(self) -> Tls | None:
        """The certificates, None for plain HTTP."""
        if self.certificate is None or self.key is None:
            return None
        return Tls(self.certificate, self.key, self.client_ca)

    @property
    def url(self) -> str:
        """Where a client on this host finds it."""
        host, _, port = self.listen.rpartition(":")
        if host in ("", "0.0.0.0", "[::]"):  # noqa: S104  (compared, not listened on)
            host = "127.0.0.1"
        return f"{'https' if self.certificate else 'http'}://{host}:{port}"

    def token(self) -> str:
        """Returns the bearer token, empty without one.

        Raises:
            ConfigError: its file can't be read.
        """
        if self.token_file is None:
            return ""
        try:
            return self.token_file.read_text("utf-8").strip()
        except OSError as error:
            raise ConfigError(f"prometheus.token_file: {error}") from error


class Otlp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the agent sends; all else of OTLP is set by OpenTelemetry's own variables.

    Attributes:
        endpoint: the collector's URL; empty: none, unless a variable names one.
        interval: seconds between two snapshots; 0: OTEL_METRIC_EXPORT_INTERVAL, else 15 s.
        queue: snapshots kept while the collector is down.
    """

    endpoint: str = ""
    interval: Seconds = Seconds(0)
    queue: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = otlp.QUEUE


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings.

    Attributes:
        services: rules that name services; the first that matches counts.
        peers: names of peers, by address or network (`10.0.0.0/8`).
    """

    agent: Agent = Agent()
    network: Network = Network()
    services: tuple[Rule, ...] = ()
    peers: dict[str, str] = msgspec.field(default_factory=dict)
    metrics: Metrics = Metrics()
    prometheus: Prometheus = Prometheus()
    otlp: Otlp = Otlp()
    log: Log = Log()


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration in force.

    Attributes:
        config: the settings.
        otlp: how to send, OpenTelemetry's variables included.
        origins: where a setting comes from, by its path (`agent.interval`); defaults are not in.
    """

    config: Config
    otlp: otlp.Settings
    origins: Mapping[str, str]


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Returns the configuration in force.

    Args:
        path: the file; None: what KERNOB_CONFIG names, else the default one if it exists.
        environ: the environment.
        flags: by the path of their setting.

    Raises:
        ConfigError: a mistake; the message names its place.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is None and environ.get("KERNOB_CONFIG"):
        path = Path(environ["KERNOB_CONFIG"])
    if path is not None or DEFAULT_FILE.exists():
        values, origins = _read_file(path or DEFAULT_FILE)
    for setting, variable in _variables():
        if variable in environ:
            _put(values, setting, _scalar(environ[variable], variable))
            origins[setting] = variable
    for setting, value in flags.items():
        _put(values, setting, value)
        origins[setting] = f"--{setting.rpartition('.')[2]}"
    config = _convert(values, origins)
    _check(config, origins)
    return Loaded(config, _otlp_settings(config.otlp, environ, origins), origins)


def _variables() -> Iterator[tuple[str, str]]:
    """Yields the path of each setting that is one value, and its variable."""
    for section in msgspec.structs.fields(Config):
        if isinstance(section.default, msgspec.Struct):
            for setting in msgspec.structs.fields(section.default):
                yield (
                    f"{section.name}.{setting.name}",
                    f"KERNOB_{section.name}_{setting.name}".upper(),
                )


def _put(values: dict[str, Any], setting: str, value: object) -> None:
    section, name = setting.split(".")
    inner = values.setdefault(section, {})
    if isinstance(inner, dict):
        inner[name] = value


def _scalar(text: str, variable: str) -> object:
    """Returns what YAML makes of one word: a number, yes or no, or a text."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, dict | list):
        raise ConfigError(f"{variable}: one value is wanted, not {text!r}")
    return text if value is None else value


# -- the file ------------------------------------------------------------------------------------


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the file's values and the place of each (`kernob.yaml:7`)."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="give another --config") from error
    if len(text) > LARGEST_FILE:
        raise ConfigError(f"{path}: larger than {LARGEST_FILE} bytes")
    origins: dict[str, str] = {}
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        value = {} if root is None else _Reader(path, origins).value(root, "")
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{place}: no YAML: {problem}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:1: sections with settings are wanted, as in `agent:`")
    return value, origins


class _Reader:
    """Takes a file's nodes apart, and keeps where each value stands."""

    def __init__(self, file: Path, origins: dict[str, str]) -> None:
        self._file = file
        self._origins = origins
        self._seen: set[int] = set()

    def value(self, node: yaml.Node, where: str) -> Any:
        """Returns a node's value; aliases are refused, since they make small files large."""
        place = f"{self._file}:{node.start_mark.line + 1}"
        if id(node) in self._seen:
            raise ConfigError(f"{place}: {where}: an alias (`*`): write it out")
        if where in self._origins:
            raise ConfigError(f"{place}: {where}: given twice, first at {self._origins[where]}")
        self._seen.add(id(node))
        self._origins[where] = place
        if isinstance(node, yaml.MappingNode):
            return {name: self.value(n, at) for name, n, at in self._entries(node, where)}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(n, f"{where}[{i}]") for i, n in enumerate(node.value)]
        loader: Any = yaml.SafeLoader("")
        try:
            return loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{place}: {where}: {error}") from error
        finally:
            loader.dispose()

    def _entries(self, node: yaml.MappingNode, where: str) -> Iterator[tuple[str, yaml.Node, str]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                raise ConfigError(f"{self._file}:{line}: a name is wanted before the `:`")
            yield key.value, value, f"{where}.{key.value}" if where else key.value


# -- types ---------------------------------------------------------------------------------------


def _convert(values: dict[str, Any], origins: Mapping[str, str]) -> Config:
    try:
        return msgspec.convert(values, Config, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as error:
        _explain(str(error), origins, error)


def _decode(kind: type, value: object) -> object:
    """Makes what msgspec does not know: durations and paths."""
    if kind is Seconds:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Seconds(value)
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"a duration such as 15s, 500ms or 1m is wanted, not {value!r}")
        return Seconds(float(match[1]) * _UNITS[match[2]])
    if kind is Path:
        if not isinstance(value, str) or not value:
            raise ValueError("a file is wanted")
        return Path(value)
    raise NotImplementedError(kind)


def _explain(message: str, origins: Mapping[str, str], error: Exception) -> NoReturn:
    """Raises what is wrong, with its place and, for a slip of the pen, what was meant."""
    found = _PATH.search(message)
    where = found[1] if found else ""
    text = _PATH.sub("", message)
    unknown = _UNKNOWN.search(text)
    remedy = ""
    if unknown:
        section: Any = Config()
        for part in where.split(".") if where else ():
            section = getattr(section, part, None)
        where = f"{where}.{unknown[1]}" if where else unknown[1]
        text = "there is no such setting"
        names = getattr(section, "__struct_fields__", ("match", "name"))
        near = difflib.get_close_matches(unknown[1], names, 1) or [", ".join(names)]
        remedy = f"did you mean {near[0]}?"
    place = _place(where, origins)
    raise ConfigError(
        f"{place}: {where}: {text}" if where else f"{place}: {text}", remedy=remedy
    ) from error


def _place(where: str, origins: Mapping[str, str]) -> str:
    """Returns the place of a setting, or of the nearest thing around it."""
    while where and where not in origins:
        where = re.sub(r"(\.[^.\[]*|\[[^\]]*\]|^[^.\[]*)$", "", where)
    return origins.get(where, "configuration")


def _check(config: Config, origins: Mapping[str, str]) -> None:
    """Checks what types can't say."""
    for network in config.peers:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            where = f"peers.{network}"
            raise ConfigError(f"{_place(where, origins)}: {where}: {error}") from error
    for where, value, low, high in (
        ("agent.interval", config.agent.interval, 0.1, 60),
        ("otlp.interval", config.otlp.interval, 0, 3600),
    ):
        if not low <= value <= high:
            place = _place(where, origins)
            raise ConfigError(
                f"{place}: {where}: {low} to {high} seconds are wanted, not {value:g}"
            )
    prometheus = config.prometheus
    for name, other in (("certificate", "key"), ("key", "certificate"), ("client_ca", "key")):
        if getattr(prometheus, name) and not getattr(prometheus, other):
            place = _place(f"prometheus.{name}", origins)
            raise ConfigError(f"{place}: prometheus.{name}: prometheus.{other} is wanted, too")


def _otlp_settings(
    own: Otlp, environ: Mapping[str, str], origins: Mapping[str, str]
) -> otlp.Settings:
    """Returns OpenTelemetry's settings; a flag or our variable goes before its, the file behind."""
    merged = dict(environ)
    names = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    file_only = ".yaml:" in origins.get("otlp.endpoint", "")
    if own.endpoint and not (file_only and any(name in environ for name in names)):
        merged.pop(names[0], None)
        merged[names[1]] = own.endpoint
    settings = otlp.settings(merged)
    interval = settings.interval
    if own.interval and not (
        ":" in origins.get("otlp.interval", "") and "OTEL_METRIC_EXPORT_INTERVAL" in environ
    ):
        interval = float(own.interval)
    return dataclasses.replace(settings, interval=interval, queue=own.queue)


# -- what is in force ------------------------------------------------------------------------------


def describe(loaded: Loaded, *, as_json: bool) -> str:
    """Returns all settings as text, each with where it comes from: YAML, or JSON."""
    plain = msgspec.to_builtins(loaded.config, enc_hook=_text)
    if as_json:
        return json.dumps({"settings": plain, "origins": dict(loaded.origins)}, indent=2) + "\n"
    lines: list[str] = []
    for section, values in plain.items():
        if not isinstance(values, dict) or section == "peers":
            text = yaml.safe_dump({section: values}, sort_keys=False).rstrip()
            lines.append(_commented(text, loaded.origins.get(section, "default")))
            continue
        lines.append(f"{section}:")
        for name, value in values.items():
            text = yaml.safe_dump({name: value}).rstrip()
            origin = loaded.origins.get(f"{section}.{name}", "default")
            lines.append("  " + _commented(text, origin))
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return f"{value:g}s" if isinstance(value, Seconds) else str(value)


def _commented(text: str, origin: str) -> str:
    first, newline, rest = text.partition("\n")
    return f"{first:40} # {origin}{newline}{rest}"
