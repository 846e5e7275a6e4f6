"""OpenTelemetry's exporters by signal and protocol, each imported only when a sender wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.telemetry.otlp_settings import Settings


class Exporter(Protocol):
    """What OpenTelemetry's exporters have in common."""

    def export(self, data: Any, /) -> Any:
        """Sends; returns an enumeration's member, `SUCCESS` or another."""

    def shutdown(self) -> None:
        """Ends the pause between two tries."""


_HTTP: Final = "opentelemetry.exporter.otlp.proto.http"
_ENDPOINTS: Final = {
    ("http/protobuf", "metrics"): "http://localhost:4318/v1/metrics",
    ("http/protobuf", "traces"): "http://localhost:4318/v1/traces",
    ("grpc", "metrics"): "http://localhost:4317",
    ("grpc", "traces"): "http://localhost:4317",
}
_LOGGERS: Final = {
    ("http/protobuf", "metrics"): f"{_HTTP}.metric_exporter",
    ("http/protobuf", "traces"): f"{_HTTP}.trace_exporter",
    ("grpc", "metrics"): "opentelemetry.exporter.otlp.proto.grpc.exporter",
    ("grpc", "traces"): "opentelemetry.exporter.otlp.proto.grpc.exporter",
}


def endpoint(settings: Settings) -> str:
    """Returns where to send: what was set, else OpenTelemetry's default on this host."""
    return settings.endpoint or _ENDPOINTS[settings.protocol, settings.signal]


def logger_name(settings: Settings) -> str:
    """Returns the name of the logger in which the exporter says why it failed."""
    return _LOGGERS[settings.protocol, settings.signal]


def exporter(settings: Settings, answered: Callable[[int, int, str], None]) -> Exporter:
    """Returns an exporter; see `otlp_http.exporter` for `answered`, which gRPC has no place for."""
    if settings.protocol == "grpc":
        from kernob.telemetry import otlp_grpc  # noqa: PLC0415

        return otlp_grpc.exporter(settings)
    from kernob.telemetry import otlp_http  # noqa: PLC0415

    return otlp_http.exporter(settings, answered)
