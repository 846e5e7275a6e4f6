"""The one configuration: file, environment and flags, typed, each value with its origin.

Later wins: defaults, the file (YAML), the environment (`KERNOB_AGENT_INTERVAL` is
`agent.interval`), flags. OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_*`,
`OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_PROMETHEUS_*`) are environment, too, and come before
ours. A value is read alike wherever it stands; an empty one is as good as none. A mistake names
its place: file and line, variable or flag.
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

from kernob.access import Tls
from kernob.errors import ConfigError
from kernob.identity.procfs import printable
from kernob.identity.redact import redact_text
from kernob.identity.service import Rule  # noqa: TC001  (msgspec reads the types)
from kernob.telemetry import otlp_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_FILE: Final = Path("/etc/kernob/kernob.yaml")
LARGEST_FILE: Final = 1 << 18
"""Bytes: a larger configuration is a mistake."""
SHORTEST_INTERVAL: Final = 0.1

_UNITS: Final = {"": 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*(ms|s|m|h|d|)\s*")
_SIZES: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE: Final = re.compile(r"\s*([0-9]{1,15})\s*(B|KiB|MiB|GiB|TiB|)\s*")
_PATH: Final = re.compile(r" - at `\$?\.?([^`]*)`$")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")
_ADDRESS: Final = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[^:\[\]\s]*):([0-9]{1,5})")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_BOOLEANS: Final = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_NONE: Final = ("", "~", "null", "Null", "NULL")
# What Kubernetes sets in each pod beside a service called kernob-agent.
_KUBERNETES: Final = re.compile(r".*_(?:SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_\d+_(?:TCP|UDP).*)")
_FLAGS: Final = {
    "otlp.endpoint": "--otlp",
    "server.grpc_listen": "--grpc-listen",
    "store.path": "--store",
    "store.url": "--store",
}
_OPENTELEMETRY: Final = (
    ("otlp.endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    ("otlp.endpoint", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", ""),
    ("otlp.interval", "OTEL_METRIC_EXPORT_INTERVAL", "ms"),
)

Entries = Annotated[int, msgspec.Meta(ge=16, le=1 << 22)]


class Seconds(float):
    """A duration: `500ms`, `15s`, `1m`, or a number of seconds."""


class Size(int):
    """A number of bytes: `512MiB`, `10GiB`."""


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


class Requests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is seen of requests.

    Attributes:
        enabled: look at requests; without, only bytes are counted.
        series: rows: one for each operation and status of a process with a peer.
        series_per_process: what one process may take of them; the rest is one operation.
        texts: let texts of operations out (routes, statements without their literals).
        samples_per_second: how many failed requests of one process are shown one by one, and half
            as many of the others; 0: none.
    """

    enabled: bool = True
    series: Entries = 16384
    series_per_process: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 2048
    texts: bool = True
    samples_per_second: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 20


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes out at most.

    Attributes:
        series_limit: of one metric; what exceeds it is one series, `otel.metric.overflow`.
    """

    series_limit: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 10_000


class Door(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address that something of Kernob listens on, and who may come in.

    Attributes:
        listen: `host:port`, or `off`. Off loopback it needs a token or certificates of clients.
        token_file: holds the bearer token that clients send.
        certificate: PEM file, for TLS.
        key: PEM file of the certificate's key.
        client_ca: PEM file of who signs the certificates of clients.
    """

    listen: str
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    @property
    def enabled(self) -> bool:
        """Whether anything listens."""
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
            raise ConfigError(f"{type(self).__name__.lower()}.token_file: {error}") from error


class Prometheus(Door, frozen=True, forbid_unknown_fields=True):
    """Where the agent answers."""

    listen: str = "127.0.0.1:9464"


class Server(Door, frozen=True, forbid_unknown_fields=True):
    """Where the server takes OTLP over HTTP and answers the API.

    Attributes:
        grpc_listen: where it takes OTLP over gRPC, or `off`; the same token and certificates.
        largest_body: bytes of one request at most, as it comes and unpacked.
        waiting: bytes of accepted requests that may wait for the store; more are refused with the
            retryable status.
    """

    listen: str = "127.0.0.1:4318"
    grpc_listen: str = "127.0.0.1:4317"
    largest_body: Size = Size(16 << 20)
    waiting: Size = Size(64 << 20)


class Pages(Door, frozen=True, forbid_unknown_fields=True):
    """Where the pages are.

    Attributes:
        server: URL of the server they read from; empty for the one of this configuration.
    """

    listen: str = "127.0.0.1:8420"
    server: str = ""


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server keeps what it is sent.

    Attributes:
        path: folder of the embedded store; empty for /var/lib/kernob/store, or the user's data
            folder where that can't be written.
        url: of a ClickHouse server (`http://user@host:8123`), instead of the embedded one.
        password_file: holds the password for `url`.
        cluster: name of the cluster, for replicated and distributed tables.
        database: that holds the tables.
        metrics_retention, traces_retention, logs_retention, profiles_retention: how long each is
            kept.
        disk_limit: bytes on disk; beyond them the oldest day goes first. 0 for no limit.
    """

    path: Path | None = None
    url: str = ""
    password_file: Path | None = None
    cluster: str = ""
    database: str = "otel"
    metrics_retention: Seconds = Seconds(7 * 86400)
    traces_retention: Seconds = Seconds(7 * 86400)
    logs_retention: Seconds = Seconds(7 * 86400)
    profiles_retention: Seconds = Seconds(7 * 86400)
    disk_limit: Size = Size(20 << 30)


class Otlp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the agent sends; all else of OTLP is set by OpenTelemetry's own variables.

    Attributes:
        endpoint: the collector's URL, as in OTEL_EXPORTER_OTLP_ENDPOINT; empty for none.
        interval: seconds between two snapshots.
        queue: snapshots kept while the collector is down.
    """

    endpoint: str = ""
    interval: Seconds = Seconds(15)
    queue: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = otlp_settings.QUEUE


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
    requests: Requests = Requests()
    services: tuple[Rule, ...] = ()
    peers: dict[str, str] = msgspec.field(default_factory=dict)
    metrics: Metrics = Metrics()
    prometheus: Prometheus = Prometheus()
    otlp: Otlp = Otlp()
    server: Server = Server()
    store: Store = Store()
    pages: Pages = Pages()
    log: Log = Log()


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration in force.

    Attributes:
        config: the settings.
        otlp: how to send metrics, OpenTelemetry's variables included.
        traces: how to send samples of requests.
        origins: where a setting comes from, by its path (`agent.interval`); defaults are not in.
    """

    config: Config
    otlp: otlp_settings.Settings
    traces: otlp_settings.Settings
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
    for setting, variable, text in _from_environment(environ):
        _put(values, setting, text)
        origins[setting] = variable
    for setting, value in flags.items():
        _put(values, setting, str(value))
        origins[setting] = _FLAGS.get(setting, f"--{setting.rpartition('.')[2]}")
    config = _convert(values, origins)
    _check(config, origins)
    return Loaded(config, *_otlp_settings(config.otlp, environ, origins), origins)


def _settings() -> Iterator[tuple[str, Any]]:
    """Yields the path and the type of each setting that is one value."""
    for section in msgspec.structs.fields(Config):
        if isinstance(section.default, msgspec.Struct):
            for setting in msgspec.structs.fields(section.default):
                yield f"{section.name}.{setting.name}", setting.type


def _put(values: dict[str, Any], setting: str, text: str) -> None:
    section, name = setting.split(".")
    inner = values.setdefault(section, {})
    if isinstance(inner, dict):
        inner[name] = text


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yields setting, variable and text, OpenTelemetry's first: what comes later counts."""
    for setting, variable, unit in _OPENTELEMETRY:
        if text := environ.get(variable, "").strip():
            yield setting, variable, text + unit
    yield from _prometheus_variables(environ)
    known = {f"KERNOB_{setting}".replace(".", "_").upper(): setting for setting, _ in _settings()}
    for variable, text in environ.items():
        if variable in known:
            if text:
                yield known[variable], variable, text
        elif variable.startswith("KERNOB_") and variable != "KERNOB_CONFIG":
            near = difflib.get_close_matches(variable, known, 1, 0.85)
            if near and not _KUBERNETES.fullmatch(variable):
                raise ConfigError(
                    f"{variable}: there is no such setting", remedy=f"did you mean {near[0]}?"
                )


def _prometheus_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    names = ("OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT")
    host, port = (environ.get(name, "").strip() for name in names)
    if host or port:
        host = f"[{host}]" if ":" in host else host or "127.0.0.1"
        yield "prometheus.listen", names[1] if port else names[0], f"{host}:{port or 9464}"


# -- the file ------------------------------------------------------------------------------------


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the file's values, all of them texts, and the place of each (`kernob.yaml:7`)."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="give another --config") from error
    if len(text) > LARGEST_FILE:
        raise ConfigError(f"{path}: larger than {LARGEST_FILE} bytes")
    reader = _Reader(path)
    try:
        root = yaml.compose(text, yaml.BaseLoader)
        value = {} if root is None else reader.value(root, "", f"{path}:1")
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{place}: no YAML: {problem}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:1: sections with settings are wanted, as in `agent:`")
    return value, reader.origins


class _Reader:
    """Takes a file's nodes apart, and keeps where each value stands.

    Scalars stay texts, as they are in the environment and in flags: `off` is no boolean until a
    setting wants one, and no tag makes anything.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: set[int] = set()
        self.origins: dict[str, str] = {}

    def value(self, node: yaml.Node, where: str, place: str) -> Any:
        """Returns a node's value; aliases are refused, since they make small files large."""
        if id(node) in self._seen:
            raise _error(place, where, "an alias (`*`): write it out")
        self._seen.add(id(node))
        if where:
            self.origins[where] = place
        if isinstance(node, yaml.MappingNode):
            return {name: self.value(n, at, line) for name, n, at, line in self._in(node, where)}
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(item, f"{where}[{i}]", self._place(item))
                for i, item in enumerate(node.value)
            ]
        return node.value

    def _in(self, node: yaml.MappingNode, where: str) -> Iterator[tuple[str, yaml.Node, str, str]]:
        for key, value in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{place}: a name is wanted before the `:`")
            at = f"{where}.{key.value}" if where else key.value
            if at in self.origins:
                raise _error(place, at, f"given twice, first at {self.origins[at]}")
            if isinstance(value, yaml.ScalarNode) and not value.style and value.value in _NONE:
                self.origins[at] = place
            else:
                yield key.value, value, at, place

    def _place(self, node: yaml.Node) -> str:
        return f"{self._file}:{node.start_mark.line + 1}"


# -- types ---------------------------------------------------------------------------------------


def _convert(values: dict[str, Any], origins: Mapping[str, str]) -> Config:
    for setting, kind in _settings():
        section, name = setting.split(".")
        inner = values.get(section)
        if kind is bool and isinstance(inner, dict) and isinstance(inner.get(name), str):
            word = inner[name].lower()
            inner[name] = _BOOLEANS.get(word, word)
    try:
        return msgspec.convert(values, Config, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        _explain(str(error), origins, error)


def _decode(kind: type, value: object) -> object:
    """Makes what msgspec does not know: durations and paths."""
    if kind is Seconds:
        return duration(value)
    if kind is Size:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"a size such as 512MiB or 10GiB is wanted, not {value!r}")
        return Size(int(match[1]) * _SIZES[match[2]])
    if kind is Path:
        if not isinstance(value, str):
            raise ValueError("a file is wanted")
        return Path(value)
    raise NotImplementedError(kind)


def duration(value: object) -> Seconds:
    """Returns what a text such as `15s` says.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a duration such as 15s, 500ms or 1m is wanted, not {value!r}")
    return Seconds(float(match[1]) * _UNITS[match[2]])


def _error(place: str, where: str, problem: str, remedy: str = "") -> ConfigError:
    """Returns the error about a setting, in one line whatever the setting's name holds."""
    text = f"{place}: {where}: {problem}" if where else f"{place}: {problem}"
    return ConfigError(printable(text), remedy=printable(remedy))


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
    raise _error(_place(where, origins), where, text, remedy) from error


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
            raise _error(_place(where, origins), where, str(error)) from error
    endpoint = config.otlp.endpoint
    # OpenTelemetry's own variables may hold a bare host:port for gRPC.
    by_opentelemetry = origins.get("otlp.endpoint", "").startswith("OTEL_")
    checks = [
        (
            "otlp.endpoint",
            by_opentelemetry or not endpoint or endpoint.startswith(("http://", "https://")),
            "a URL is wanted, as in http://localhost:4318",
        ),
        (
            "pages.server",
            not config.pages.server or config.pages.server.startswith(("http://", "https://")),
            "a URL is wanted, as in http://localhost:4318",
        ),
        (
            "store.url",
            not config.store.url or config.store.url.startswith(("http://", "https://")),
            "a URL is wanted, as in http://clickhouse:8123",
        ),
        (
            "store.database",
            _NAME.fullmatch(config.store.database),
            "letters, digits and _ are wanted",
        ),
        (
            "store.cluster",
            not config.store.cluster or _NAME.fullmatch(config.store.cluster),
            "letters, digits and _ are wanted",
        ),
        ("server.listen", config.server.listen != "off", "the server can't do without"),
    ]
    retentions = [
        (f"store.{signal}_retention", getattr(config.store, f"{signal}_retention"), 3600, 10**9)
        for signal in ("metrics", "traces", "logs", "profiles")
    ]
    for where, value, shortest, longest in (
        ("agent.interval", config.agent.interval, SHORTEST_INTERVAL, 60),
        ("otlp.interval", config.otlp.interval, SHORTEST_INTERVAL, 3600),
        *retentions,
    ):
        fits = shortest <= value <= longest
        checks.append((where, fits, f"{shortest} to {longest} seconds are wanted"))
    doors = {"prometheus": config.prometheus, "server": config.server, "pages": config.pages}
    listens = {f"{name}.listen": door.listen for name, door in doors.items()}
    for where, listen in (*listens.items(), ("server.grpc_listen", config.server.grpc_listen)):
        address = _ADDRESS.fullmatch(listen)
        fits = listen == "off" or (address and int(address[1]) < 1 << 16)
        checks.append((where, fits, f"host:port or off is wanted, not {listen!r}"))
    for section, door in doors.items():
        for name, other in (("certificate", "key"), ("key", "certificate"), ("client_ca", "key")):
            both = not getattr(door, name) or getattr(door, other)
            checks.append((f"{section}.{name}", both, f"{section}.{other} is wanted, too"))
    for where, right, problem in checks:
        if not right:
            raise _error(_place(where, origins), where, problem)


def _otlp_settings(
    own: Otlp, environ: Mapping[str, str], origins: Mapping[str, str]
) -> tuple[otlp_settings.Settings, otlp_settings.Settings]:
    """Returns how to send metrics and traces, by OpenTelemetry's variables and our settings."""
    merged = dict(environ)
    if own.endpoint and not origins["otlp.endpoint"].startswith("OTEL_"):
        merged.pop("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", None)
        merged["OTEL_EXPORTER_OTLP_ENDPOINT"] = own.endpoint
    metrics = otlp_settings.settings(merged)
    return (
        dataclasses.replace(metrics, interval=float(own.interval), queue=own.queue),
        otlp_settings.settings(merged, "traces"),
    )


# -- what is in force ------------------------------------------------------------------------------


def describe(loaded: Loaded, *, as_json: bool) -> str:
    """Returns all settings as text, each with where it comes from: YAML, or JSON."""
    plain = msgspec.to_builtins(loaded.config, enc_hook=_text)
    plain["otlp"]["endpoint"] = redact_text(plain["otlp"]["endpoint"])
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
    if isinstance(value, Seconds):
        return f"{value:.12g}s"
    if isinstance(value, Size) and value:
        unit = next(u for u, size in reversed(_SIZES.items()) if value >= size and not value % size)
        return f"{value // _SIZES[unit]}{unit}"
    return str(value)


def _commented(text: str, origin: str) -> str:
    first, newline, rest = text.partition("\n")
    return f"{first:40} # {origin}{newline}{rest}"
