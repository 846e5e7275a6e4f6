"""How to send OTLP, by OpenTelemetry's variables.

Apart from `otlp` since the configuration is read by programs, too, that send nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from kernob.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

QUEUE: Final = 40
"""Snapshots that wait for a collector at most: 10 minutes at 15 s."""
SPANS: Final = 2048
"""Spans that wait at most: OTEL_BSP_MAX_QUEUE_SIZE's default."""

_PROTOCOLS: Final = ("http/protobuf", "grpc")
_TEMPORALITIES: Final = ("cumulative", "delta", "lowmemory")
_COMPRESSIONS: Final = {"http/protobuf": ("none", "gzip", "deflate"), "grpc": ("none", "gzip")}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to send, by OpenTelemetry's variables.

    Attributes:
        signal: what is sent, `metrics` or `traces`.
        enabled: someone asked for OTLP: an endpoint is set, or OTEL_METRICS_EXPORTER (of traces:
            OTEL_TRACES_EXPORTER) says `otlp`.
        protocol: `http/protobuf` or `grpc`.
        endpoint: the URL in full; empty for OpenTelemetry's default on this host.
        temporality: `cumulative`; `delta` for counters and histograms; `lowmemory` for histograms
            alone (the kernel's counters are what OpenTelemetry calls asynchronous).
        compression: `none`, `gzip`, `deflate` (HTTP only).
        timeout: seconds for one export, its retries included.
        interval: seconds between two snapshots; for the agent, the sender doesn't use it.
        certificate: CA file to check the collector by; empty for the system's.
        client_certificate, client_key: files for mutual TLS; empty for none.
        queue: snapshots or spans that may wait.
    """

    signal: Literal["metrics", "traces"] = "metrics"
    enabled: bool = False
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    endpoint: str = ""
    temporality: Literal["cumulative", "delta", "lowmemory"] = "cumulative"
    compression: str = "none"
    timeout: float = 10.0
    interval: float = 15.0
    certificate: str = ""
    client_certificate: str = ""
    client_key: str = ""
    queue: int = QUEUE


def settings(
    environ: Mapping[str, str] = os.environ, signal: Literal["metrics", "traces"] = "metrics"
) -> Settings:
    """Returns the settings that OpenTelemetry's variables ask for.

    Read here: OTEL_SDK_DISABLED, OTEL_METRICS_EXPORTER (`otlp`, `none`, `prometheus`), for traces
    OTEL_TRACES_EXPORTER, OTEL_METRIC_EXPORT_INTERVAL, and of OTEL_EXPORTER_OTLP_* (those with
    `METRICS_` or `TRACES_` first) PROTOCOL,
    ENDPOINT, TIMEOUT, COMPRESSION, CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY and
    METRICS_TEMPORALITY_PREFERENCE. The exporters themselves read HEADERS and INSECURE;
    `kernob.identity.host` OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME. Of no use here:
    METRICS_DEFAULT_HISTOGRAM_AGGREGATION (always exponential), OTEL_METRIC_EXPORT_TIMEOUT (one
    export has TIMEOUT).

    Source: OpenTelemetry specification 1.50, "Environment variables" and "OTLP exporter".

    Raises:
        ConfigError: a variable's value can't be used.
    """

    def value(name: str, default: str = "") -> tuple[str, str]:
        """Returns what the more specific variable says, and that variable's name."""
        special = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}"
        common = f"OTEL_EXPORTER_OTLP_{name}"
        for variable in (special, common):
            if text := environ.get(variable, "").strip():
                return text, variable
        return default, common

    protocol = _one_of(_PROTOCOLS, *value("PROTOCOL", "http/protobuf"))
    files = {name: value(name) for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")}
    for path, variable in files.values():
        if path and not os.access(path, os.R_OK):
            raise ConfigError(f"{variable}: can't read {path}")
    exporters = (
        environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").lower().replace(" ", "").split(",")
    )
    endpoint, variable = value("ENDPOINT")
    if protocol == "http/protobuf" and endpoint:
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"{variable}: {endpoint!r} is no http:// or https:// URL")
        if variable == "OTEL_EXPORTER_OTLP_ENDPOINT":
            endpoint = endpoint.removesuffix("/") + f"/v1/{signal}"
    return Settings(
        signal=signal,
        enabled=(bool(endpoint) or "otlp" in exporters)
        and ("otlp" in exporters or exporters == [""])
        and environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true",
        protocol=protocol,
        endpoint=endpoint,
        temporality=_one_of(_TEMPORALITIES, *value("TEMPORALITY_PREFERENCE", "cumulative")),
        compression=_one_of(_COMPRESSIONS[protocol], *value("COMPRESSION", "none")),
        timeout=_seconds(*value("TIMEOUT", "10000")),
        interval=_seconds(
            environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or "15000",
            "OTEL_METRIC_EXPORT_INTERVAL",
        ),
        certificate=files["CERTIFICATE"][0],
        client_certificate=files["CLIENT_CERTIFICATE"][0],
        client_key=files["CLIENT_KEY"][0],
        queue=QUEUE if signal == "metrics" else SPANS,
    )


def _one_of(allowed: tuple[str, ...], text: str, variable: str) -> Any:
    if text.lower() not in allowed:
        raise ConfigError(f"{variable}: {text!r} is none of {', '.join(allowed)}")
    return text.lower()


def _seconds(milliseconds: str, variable: str) -> float:
    try:
        seconds = float(milliseconds) / 1000
    except ValueError:
        raise ConfigError(f"{variable}: {milliseconds!r} is no number of milliseconds") from None
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{variable}: {milliseconds!r} is no time to wait")
    return seconds
